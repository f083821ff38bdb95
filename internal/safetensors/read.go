package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"

	"cordon/dataset"
	"cordon/internal/regular"
)

const (
	// maxHeader limits the JSON header; ResNet-50's is about 30 kB.
	maxHeader = 16 << 20
	// maxDims limits the dimensions of a tensor.
	maxDims = 16
)

// File is an open safetensors file. Its methods may be used by several
// goroutines at once.
type File struct {
	file     *os.File
	data     int64 // where the data begins
	names    []string
	entries  map[string]entry
	metadata map[string]string
}

// entry is a tensor's place: data bytes begin … end−1.
type entry struct {
	dtype      DType
	shape      []int64
	begin, end int64
}

// Open checks the file's header and keeps the file open until Close. A file
// that breaks the format gives a *dataset.FormatError.
func Open(path string) (*File, error) {
	file, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := read(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

func read(file *os.File) (*File, error) {
	bad := func(format string, args ...any) error {
		return &dataset.FormatError{Path: file.Name(), Offset: -1, Reason: fmt.Sprintf(format, args...)}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var length [8]byte
	if info.Size() < int64(len(length)) {
		return nil, bad("%d bytes are too short for a safetensors file", info.Size())
	}
	if _, err := file.ReadAt(length[:], 0); err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	size := binary.LittleEndian.Uint64(length[:])
	if size > maxHeader {
		return nil, bad("header of %d bytes is over the limit of %d", size, maxHeader)
	}
	data := int64(len(length)) + int64(size)
	if data > info.Size() {
		return nil, bad("header of %d bytes ends after the file's %d", size, info.Size())
	}
	header := make([]byte, size)
	if _, err := file.ReadAt(header, int64(len(length))); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	f, err := parse(header, info.Size()-data)
	if err != nil {
		return nil, bad("%v", err)
	}
	f.file, f.data = file, data
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Names returns the tensors' names in the order of the header.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Metadata returns the file's string metadata, nil if it has none. The map
// is the file's own: do not change it.
func (f *File) Metadata() map[string]string { return f.metadata }

func (f *File) entry(name string) (entry, error) {
	e, ok := f.entries[name]
	if !ok {
		return e, fmt.Errorf("%s: has no tensor %q", f.file.Name(), name)
	}
	return e, nil
}

// Shape returns a tensor's dimensions without reading it.
func (f *File) Shape(name string) ([]int64, error) {
	e, err := f.entry(name)
	return slices.Clone(e.shape), err
}

// Float32s reads the elements of an F32 or BF16 tensor.
func (f *File) Float32s(name string) ([]float32, error) {
	t, err := f.Tensor(name)
	if err != nil {
		return nil, err
	}
	return t.Float32s()
}

// Tensor reads one tensor into fresh memory.
func (f *File) Tensor(name string) (Tensor, error) {
	e, err := f.entry(name)
	if err != nil {
		return Tensor{}, err
	}
	data := make([]byte, e.end-e.begin)
	if n, err := f.file.ReadAt(data, f.data+e.begin); n < len(data) {
		return Tensor{}, fmt.Errorf("%s: tensor %q: %w", f.file.Name(), name, err)
	}
	return Tensor{Name: name, DType: e.dtype, Shape: slices.Clone(e.shape), Data: data}, nil
}

// parse reads the header of a file with dataSize bytes of data.
func parse(header []byte, dataSize int64) (*File, error) {
	if !utf8.Valid(header) {
		return nil, fmt.Errorf("header is not UTF-8")
	}
	if !bytes.HasPrefix(header, []byte("{")) {
		return nil, fmt.Errorf("header does not begin with {")
	}
	p := parser{json.NewDecoder(bytes.NewReader(header))}
	p.dec.UseNumber()
	f := &File{entries: map[string]entry{}}
	err := p.object(func(name string) (err error) {
		if name == metadataKey {
			f.metadata, err = p.metadata()
			return err
		}
		f.names = append(f.names, name)
		f.entries[name], err = p.entry()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if rest := bytes.TrimRight(header[p.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("header: %d bytes follow the JSON object", len(rest))
	}
	return f, f.checkLayout(dataSize)
}

// checkLayout wants the tensors to cover the data exactly, without overlaps.
func (f *File) checkLayout(dataSize int64) error {
	byPlace := slices.Clone(f.names)
	slices.SortStableFunc(byPlace, func(a, b string) int {
		x, y := f.entries[a], f.entries[b]
		return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end))
	})
	var end int64
	for _, name := range byPlace {
		e := f.entries[name]
		switch {
		case e.end > dataSize:
			return fmt.Errorf("tensor %q: ends at byte %d of %d bytes of data", name, e.end, dataSize)
		case e.begin < end:
			return fmt.Errorf("tensor %q: overlaps another", name)
		case e.begin > end:
			return fmt.Errorf("tensor %q: follows a hole of %d bytes", name, e.begin-end)
		}
		end = e.end
	}
	if end != dataSize {
		return fmt.Errorf("%d bytes of data belong to no tensor", dataSize-end)
	}
	return nil
}

// parser walks the header token by token: unlike json.Unmarshal it sees
// duplicate keys, keeps the order and never nests deeper than the format.
type parser struct{ dec *json.Decoder }

func (p parser) delim(want json.Delim) error {
	token, err := p.dec.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("found %v where %v belongs", token, want)
	}
	return nil
}

func (p parser) text() (string, error) {
	token, err := p.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("found %v where a string belongs", token)
	}
	return s, nil
}

// object calls value for every key of an object; value reads what follows.
func (p parser) object(value func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q is there twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	return p.delim('}')
}

func (p parser) metadata() (map[string]string, error) {
	m := map[string]string{}
	err := p.object(func(key string) (err error) {
		m[key], err = p.text()
		return err
	})
	return m, err
}

// integers reads an array of at most limit numbers ≥ 0.
func (p parser) integers(limit int) ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	list := []int64{}
	for p.dec.More() {
		token, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		if !ok {
			return nil, fmt.Errorf("found %v where a number belongs", token)
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is not an integer from 0 to 2^63-1", number)
		}
		if len(list) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		list = append(list, n)
	}
	return list, p.delim(']')
}

func (p parser) entry() (entry, error) {
	var e entry
	var offsets []int64
	err := p.object(func(key string) (err error) {
		switch key {
		case "dtype":
			var name string
			name, err = p.text()
			e.dtype = DType(name)
		case "shape":
			e.shape, err = p.integers(maxDims)
		case "data_offsets":
			offsets, err = p.integers(2)
		default:
			err = fmt.Errorf("unknown key")
		}
		return err
	})
	if err != nil {
		return e, err
	}
	if e.shape == nil {
		return e, fmt.Errorf("has no shape")
	}
	if len(offsets) != 2 {
		return e, fmt.Errorf("needs two data_offsets, has %d", len(offsets))
	}
	e.begin, e.end = offsets[0], offsets[1]
	size, err := byteSize(e.dtype, e.shape)
	if err != nil {
		return e, err
	}
	if e.end < e.begin || e.end-e.begin != size {
		return e, fmt.Errorf("shape %v of %s needs %d bytes, data_offsets are %v", e.shape, e.dtype, size, offsets)
	}
	return e, nil
}
