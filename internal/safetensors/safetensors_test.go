package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cordon/dataset"
)

func example() []Tensor {
	return []Tensor{
		FromFloat32("conv1.weight", []int64{1, 3}, []float32{1, -2.5, float32(math.Inf(1))}),
		FromInt64("bn1.num_batches_tracked", nil, []int64{-7}),
		{Name: "half", DType: BF16, Shape: []int64{2}, Data: []byte{0x80, 0x3f, 0x20, 0xc0}},
		{Name: "pixels \"ü\"", DType: U8, Shape: []int64{3, 1}, Data: []byte{1, 2, 255}},
		{Name: "empty", DType: F32, Shape: []int64{0, 9}, Data: []byte{}},
		FromFloat32("scalar", []int64{}, []float32{42}),
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	meta := map[string]string{"format": "pt", "arch": "resnet50"}
	if err := Write(path, example(), meta); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !reflect.DeepEqual(f.Metadata(), meta) {
		t.Errorf("metadata %v, want %v", f.Metadata(), meta)
	}
	var names []string
	for _, want := range example() {
		names = append(names, want.Name)
		got, err := f.Tensor(want.Name)
		if err != nil {
			t.Fatal(err)
		}
		if want.Shape == nil {
			want.Shape = []int64{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		e := f.entries[want.Name]
		if place := f.data + e.begin; place%int64(want.DType.Size()) != 0 {
			t.Errorf("%s of %s begins at byte %d", want.Name, want.DType, place)
		}
	}
	if !reflect.DeepEqual(f.Names(), names) {
		t.Errorf("names %q, want %q", f.Names(), names)
	}
	if f.data%8 != 0 {
		t.Errorf("data begins at byte %d", f.data)
	}
	if _, err := f.Tensor("other"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("missing tensor: %v", err)
	}
}

func TestValues(t *testing.T) {
	tensors := example()
	floats, err := tensors[0].Float32s()
	if want := []float32{1, -2.5, float32(math.Inf(1))}; err != nil || !reflect.DeepEqual(floats, want) {
		t.Errorf("F32: %v, %v", floats, err)
	}
	if half, err := tensors[2].Float32s(); err != nil || !reflect.DeepEqual(half, []float32{1, -2.5}) {
		t.Errorf("BF16: %v, %v", half, err)
	}
	if _, err := tensors[1].Float32s(); err == nil {
		t.Error("I64 read as floats")
	}
}

// The exact bytes: length, header padded with spaces to 8 bytes, data.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := Write(path, []Tensor{FromInt64("a", []int64{1}, []int64{258})}, nil); err != nil {
		t.Fatal(err)
	}
	header := `{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	want := string(rune(len(header))) + "\x00\x00\x00\x00\x00\x00\x00" + header + "\x02\x01\x00\x00\x00\x00\x00\x00"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("wrote %q (%v), want %q", got, err, want)
	}
}

func TestWriteRefuses(t *testing.T) {
	u8 := func(name string, n int) Tensor {
		return Tensor{Name: name, DType: U8, Shape: []int64{2}, Data: make([]byte, n)}
	}
	tests := []struct {
		tensors []Tensor
		meta    map[string]string
		part    string
	}{
		{[]Tensor{u8("a", 2), u8("a", 2)}, nil, `"a" is there twice`},
		{[]Tensor{u8("a", 3)}, nil, "needs 2 bytes, has 3"},
		{[]Tensor{u8(metadataKey, 2)}, nil, "not allowed"},
		{[]Tensor{u8("\xff", 2)}, nil, "not allowed"},
		{[]Tensor{{Name: "a", DType: "F64"}}, nil, "unknown element type"},
		{[]Tensor{{Name: "a", DType: F32, Shape: []int64{-1}}}, nil, "negative"},
		{[]Tensor{{Name: "a", DType: F32, Shape: []int64{1 << 40, 1 << 40}}}, nil, "overflows"},
		{nil, map[string]string{"a": "\xff"}, "not UTF-8"},
		{nil, map[string]string{"a": strings.Repeat("x", maxHeader)}, "over the limit"},
	}
	for _, test := range tests {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		err := Write(path, test.tensors, test.meta)
		if err == nil || !strings.Contains(err.Error(), test.part) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %q", err, test.part)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file was left", test.part)
		}
	}
}

// fileOf returns a file with this header and n bytes of data.
func fileOf(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestOpenRefuses(t *testing.T) {
	entry := func(begin, end int) string {
		return fmt.Sprintf(`{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, end-begin, begin, end)
	}
	tests := []struct {
		name, part string
		file       []byte
	}{
		{"empty", "too short", nil},
		{"short", "too short", []byte{1, 2, 3}},
		{"huge header", "over the limit", binary.LittleEndian.AppendUint64(nil, math.MaxUint64)},
		{"header after end", "ends after the file", binary.LittleEndian.AppendUint64(nil, 100)},
		{"no header", "does not begin with {", fileOf("", 0)},
		{"not JSON", "does not begin with {", fileOf("[]", 0)},
		{"leading space", "does not begin with {", fileOf(" {}", 0)},
		{"cut JSON", "EOF", fileOf(`{"a":`, 0)},
		{"not UTF-8", "not UTF-8", fileOf("{\"\xff\":1}", 0)},
		{"after object", "follow the JSON object", fileOf("{}{}", 0)},
		{"duplicate", `"a" is there twice`, fileOf(`{"a":`+entry(0, 1)+`,"a":`+entry(1, 2)+`}`, 2)},
		{"duplicate by escape", `"a" is there twice`, fileOf(`{"a":`+entry(0, 1)+`,"\u0061":`+entry(1, 2)+`}`, 2)},
		{"duplicate inside", `"dtype" is there twice`, fileOf(`{"a":{"dtype":"U8","dtype":"U8"}}`, 0)},
		{"unknown inside", "unknown key", fileOf(`{"a":{"dtypes":"U8"}}`, 0)},
		{"deep", "where a number belongs", fileOf(`{"a":{"shape":`+strings.Repeat("[", 100000), 0)},
		{"deep object", "where a string belongs", fileOf(`{"a":{"dtype":`+strings.Repeat(`{"a":`, 100000), 0)},
		{"number for entry", "where { belongs", fileOf(`{"a":1}`, 0)},
		{"metadata number", "where a string belongs", fileOf(`{"__metadata__":{"a":1}}`, 0)},
		{"no shape", "no shape", fileOf(`{"a":{"dtype":"U8","data_offsets":[0,0]}}`, 0)},
		{"no offsets", "needs two data_offsets", fileOf(`{"a":{"dtype":"U8","shape":[0]}}`, 0)},
		{"one offset", "needs two data_offsets", fileOf(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}`, 0)},
		{"three offsets", "more than 2", fileOf(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}`, 0)},
		{"many dimensions", "more than 16", fileOf(`{"a":{"dtype":"U8","shape":[1`+strings.Repeat(",1", 16)+`],"data_offsets":[0,1]}}`, 1)},
		{"unknown type", `unknown element type "F64"`, fileOf(`{"a":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"negative", "is not an integer", fileOf(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}`, 0)},
		{"fraction", "is not an integer", fileOf(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1)},
		{"over int64", "is not an integer", fileOf(`{"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}}`, 1)},
		{"overflow", "overflows", fileOf(`{"a":{"dtype":"I64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0)},
		{"size mismatch", "needs 8 bytes", fileOf(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4)},
		{"backwards", "data_offsets are [4 0]", fileOf(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4)},
		{"out of file", "ends at byte 5 of 4", fileOf(`{"a":`+entry(0, 5)+`}`, 4)},
		{"overlap", `"b": overlaps`, fileOf(`{"a":`+entry(0, 3)+`,"b":`+entry(2, 4)+`}`, 4)},
		{"hole", `"b": follows a hole of 1`, fileOf(`{"a":`+entry(0, 2)+`,"b":`+entry(3, 4)+`}`, 4)},
		{"hole at start", "follows a hole of 1", fileOf(`{"a":`+entry(1, 2)+`}`, 2)},
		{"trailing data", "1 bytes of data belong to no tensor", fileOf(`{"a":`+entry(0, 2)+`}`, 3)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.safetensors")
			if err := os.WriteFile(path, test.file, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			var format *dataset.FormatError
			if !errors.As(err, &format) || format.Path != path || !strings.Contains(format.Reason, test.part) {
				t.Errorf("got %v, want a FormatError with %q", err, test.part)
			}
		})
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a folder")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// A file cut after it was opened must not give short tensors.
func TestTruncatedLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := Write(path, []Tensor{FromInt64("a", []int64{2}, []int64{1, 2})}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, f.data+8); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("a"); err == nil {
		t.Error("read a truncated tensor")
	}
}

// Whatever is accepted can be read, written again and is then the same.
func FuzzOpen(f *testing.F) {
	f.Add(fileOf(`{}`, 0))
	f.Add(fileOf(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  `, 8))
	f.Add(fileOf(`{"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]},"a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]}}`, 9))
	f.Add(fileOf(`{"a":{"dtype":"BF16","shape":[0,3],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		tensors, meta, err := load(path)
		if err != nil {
			return
		}
		if err := Write(path, tensors, meta); err != nil {
			t.Fatal(err)
		}
		again, metaAgain, err := load(path)
		if err != nil || !reflect.DeepEqual(again, tensors) || len(metaAgain) != len(meta) {
			t.Fatalf("%v: %v %v became %v %v", err, tensors, meta, again, metaAgain)
		}
	})
}

func load(path string) ([]Tensor, map[string]string, error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var tensors []Tensor
	for _, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			return nil, nil, err
		}
		tensors = append(tensors, x)
	}
	return tensors, f.Metadata(), nil
}
