package dataset

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadIDX(t *testing.T) {
	plain := idxTree()
	dotted, packed := map[string][]byte{}, map[string][]byte{}
	for name, data := range plain {
		dotted[strings.Replace(name, "-idx", ".idx", 1)] = data
		packed[name+".gz"] = zipped(data)
	}
	for name, files := range map[string]map[string][]byte{"plain": plain, "dotted": dotted, "gz": packed} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, files)
			train, test := open(t, dir, Train, 0), open(t, dir, Test, 0)
			if train.Height != 4 || train.Width != 3 || train.Channels != 1 || train.Format != "idx" {
				t.Errorf("shape %d × %d × %d, format %s", train.Height, train.Width, train.Channels, train.Format)
			}
			if !bytes.Equal(train.Pixels, ramp(72)) || !slices.Equal(train.Labels, []int32{2, 0, 1, 2, 1, 0}) {
				t.Error("training images or labels differ")
			}
			if want := []string{"0", "1", "2"}; !slices.Equal(train.Classes, want) || !slices.Equal(test.Classes, want) {
				t.Errorf("classes %v and %v, want %v", train.Classes, test.Classes, want)
			}
			if !slices.Equal(test.Labels, []int32{1, 0, 1}) {
				t.Error("test labels differ")
			}
			if train.Key(4) != "#4" {
				t.Errorf("key %q", train.Key(4))
			}
		})
	}
}

func TestIDXNoSplit(t *testing.T) {
	dir := tree(t, with(idxTree(), map[string][]byte{"t10k-images-idx3-ubyte": nil, "t10k-labels-idx1-ubyte": nil}))
	if _, err := Open(context.Background(), dir, Test, Options{}); !errors.Is(err, ErrNoSplit) {
		t.Errorf("got %v, want ErrNoSplit", err)
	}
}

func TestIDXResize(t *testing.T) {
	files := with(idxTree(), map[string][]byte{"train-images-idx3-ubyte": idxFile(bytes.Repeat([]byte{90}, 72), 6, 4, 3)})
	set := open(t, tree(t, files), Train, 8)
	if set.Height != 8 || set.Width != 8 || set.Channels != 1 || len(set.Pixels) != 6*64 {
		t.Fatalf("shape %d × %d × %d, %d bytes", set.Height, set.Width, set.Channels, len(set.Pixels))
	}
	for _, v := range set.Pixels {
		if v != 90 {
			t.Fatalf("flat image got value %d", v)
		}
	}
}

func TestBadIDX(t *testing.T) {
	const images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
	good := idxTree()
	change := func(name string, data []byte) map[string][]byte {
		return with(good, map[string][]byte{name: data})
	}
	packed := func(data []byte) map[string][]byte {
		return with(good, map[string][]byte{images: nil, images + ".gz": data})
	}
	magic := slices.Clone(good[images])
	magic[2] = 9
	bomb := zipped(append(idxFile(nil, 6, 4, 3), make([]byte, 8<<20)...))
	sum := zipped(good[images])
	sum[len(sum)-8] ^= 1
	testBad(t, 0, Limits{MaxSamples: 100_000, MaxFileBytes: 16 << 20}, []badCase{
		{"truncated", change(images, good[images][:50]), "", images, "ends too early"},
		{"header only", change(images, good[images][:7]), "", images, "header is incomplete"},
		{"empty file", change(images, []byte{}), "", images, "header is incomplete"},
		{"trailing bytes", change(images, append(slices.Clone(good[images]), 0)), "", images, "trailing bytes"},
		{"trailing label", change(labels, append(slices.Clone(good[labels]), 0)), "", labels, "trailing bytes"},
		{"wrong magic", change(images, magic), "", images, "magic number"},
		{"labels as images", change(images, idxFile(ramp(20), 20)), "", images, "magic number"},
		{"fewer labels", change(labels, idxFile([]byte{0, 1, 2}, 3)), "", labels, "3 labels for 6 images"},
		{"label gap", change(labels, idxFile([]byte{2, 0, 1, 2, 200, 0}, 6)), "", labels, "label 200 is out of range"},
		{"test label", change("t10k-labels-idx1-ubyte", idxFile([]byte{1, 3, 1}, 3)), Test, "t10k-labels-idx1-ubyte", "label 3 is out of range"},
		{"one class", change(labels, idxFile(make([]byte, 6), 6)), "", ".", "1 class"},
		{"no labels file", change(labels, nil), "", labels, "missing"},
		{"no images file", change(images, nil), "", images, "missing"},
		{"no images", with(good, map[string][]byte{images: idxFile(nil, 0, 4, 3), labels: idxFile(nil, 0)}), "", labels, "no labels"},
		{"no pixels", change(images, idxFile(nil, 6, 0, 3)), "", images, "no pixels"},
		{"huge image", change(images, idxFile(nil, 1, 100_000, 100_000)), "", images, "over the limit"},
		{"many images", change(images, idxFile(nil, 1<<31, 4, 3)), "", images, "over the limit"},
		{"claims more than it holds", change(images, idxFile(ramp(72), 90_000, 100, 100)), "", images, "header claims"},
		{"gzip claims more", packed(zipped(idxFile(nil, 90_000, 28, 28))), "", images + ".gz", "header claims"},
		{"gzip bomb", packed(bomb), "", images + ".gz", "trailing bytes"},
		{"gzip truncated", packed(sum[:len(sum)-9]), "", images + ".gz", "ends too early"},
		{"gzip checksum", packed(sum), "", images + ".gz", "checksum"},
		{"gzip garbage", packed([]byte("not a gzip file")), "", images + ".gz", "invalid header"},
		{"gzip then garbage", packed(append(zipped(good[images]), "garbage garbage"...)), "", images + ".gz", "invalid header"},
		{"file over limit", change(images, make([]byte, 17<<20)), "", images, "over the limit"},
	})
}

func FuzzIDX(f *testing.F) {
	for _, data := range idxTree() {
		f.Add(data, int64(len(data)))
		f.Add(data[:len(data)-1], int64(1<<40))
	}
	f.Add(idxFile(nil, 1<<31, 1<<31, 1<<31), int64(1<<62))
	limits := Limits{MaxBytes: 1 << 20}.orDefault()
	f.Fuzz(func(t *testing.T, data []byte, most int64) {
		for _, rank := range []int{idxImageRank, idxLabelRank} {
			r := bytes.NewReader(data)
			sizes, total, err := parseIDXHeader(r, rank, most, limits)
			values := make([]byte, total)
			if err == nil {
				err = readIDXValues(r, rank, values)
			}
			if err != nil {
				var bad *FormatError
				if !errors.As(err, &bad) {
					t.Fatalf("%v is not a FormatError", err)
				}
				continue
			}
			if !bytes.Equal(idxFile(values, sizes...), data) {
				t.Fatal("an accepted file does not write back to the same bytes")
			}
		}
	})
}

// FuzzGzipIDX opens a set whose images are any bytes under a gzip name.
func FuzzGzipIDX(f *testing.F) {
	files := idxTree()
	const name = "train-images-idx3-ubyte"
	zip := zipped(files[name])
	delete(files, name)
	f.Add(zip)
	f.Add(zip[:len(zip)-3])
	f.Add(slices.Concat(zip, zip)) // two in a row are one
	dir := tree(f, files)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name+".gz"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), dir, Train, Options{Limits: Limits{MaxFileBytes: 1 << 20}})
		var bad *FormatError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%v is not a FormatError", err)
		}
	})
}
