package dataset

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files, given by slash-separated names, into a new folder.
func tree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with returns a copy of files with some replaced; nil removes one.
func with(files map[string][]byte, changes map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, data := range files {
		out[name] = data
	}
	for name, data := range changes {
		if data == nil {
			delete(out, name)
			continue
		}
		out[name] = data
	}
	return out
}

func idxFile(values []byte, sizes ...int) []byte {
	out := []byte{0, 0, 8, byte(len(sizes))}
	for _, size := range sizes {
		out = binary.BigEndian.AppendUint32(out, uint32(size))
	}
	return append(out, values...)
}

func ramp(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(7 * i)
	}
	return out
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// idxTree has 6 training and 3 test images of 4 × 3 pixels in 3 classes.
func idxTree() map[string][]byte {
	return map[string][]byte{
		"train-images-idx3-ubyte": idxFile(ramp(6*12), 6, 4, 3),
		"train-labels-idx1-ubyte": idxFile([]byte{2, 0, 1, 2, 1, 0}, 6),
		"t10k-images-idx3-ubyte":  idxFile(ramp(3*12), 3, 4, 3),
		"t10k-labels-idx1-ubyte":  idxFile([]byte{1, 0, 1}, 3),
	}
}

// cifarRecords makes records whose pixels depend on their index.
func cifarRecords(labelBytes int, labels ...byte) []byte {
	var out []byte
	for i, label := range labels {
		if labelBytes == 2 {
			out = append(out, label/5)
		}
		out = append(out, label)
		for p := range cifarPixels {
			out = append(out, byte(i*31+p*7))
		}
	}
	return out
}

const cifarNames = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"

func cifarTree() map[string][]byte {
	return map[string][]byte{
		"data_batch_1.bin": cifarRecords(1, 9, 8, 7, 6, 5),
		"data_batch_2.bin": cifarRecords(1, 0, 1, 2, 3, 4),
		"test_batch.bin":   cifarRecords(1, 3, 3),
		"batches.meta.txt": []byte(cifarNames),
	}
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func flat(size int, c color.Color) image.Image {
	img := image.NewNRGBA64(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			img.Set(x, y, c)
		}
	}
	return img
}

func textured(size, salt int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			img.SetNRGBA(x, y, color.NRGBA{byte(x*13 + salt), byte(y*17 ^ salt), byte(x*y + salt), 255})
		}
	}
	return img
}

func folderTree(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"train/cat/b.png": pngOf(t, textured(8, 1)),
		"train/cat/a.png": pngOf(t, textured(8, 2)),
		"train/dog/a.png": pngOf(t, textured(8, 3)),
		"train/dog/c.png": pngOf(t, textured(8, 4)),
		"test/cat/z.png":  pngOf(t, textured(8, 5)),
		"test/dog/z.png":  pngOf(t, textured(8, 6)),
	}
}

// hugePNG claims a size in its header and holds no pixels.
func hugePNG(width, height uint32) []byte {
	chunk := append([]byte("IHDR"), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)...)
	chunk = append(chunk, 8, 2, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	return binary.BigEndian.AppendUint32(append(out, chunk...), crc32.ChecksumIEEE(chunk))
}

func open(t testing.TB, dir string, split Split, size int) *Set {
	t.Helper()
	set, err := Open(context.Background(), dir, split, Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// wantFault checks that err is a FormatError of a file with a reason.
func wantFault(t *testing.T, err error, dir, file, reason string) {
	t.Helper()
	bad, ok := err.(*FormatError)
	if !ok {
		t.Fatalf("got %v (%T), want a *FormatError", err, err)
	}
	if want := filepath.Join(dir, file); bad.Path != want {
		t.Errorf("path %q, want %q (%v)", bad.Path, want, err)
	}
	if !strings.Contains(bad.Reason, reason) {
		t.Errorf("reason %q does not contain %q", bad.Reason, reason)
	}
}

// badCase is a broken input and what the error must say.
type badCase struct {
	name   string
	files  map[string][]byte
	split  Split
	file   string
	reason string
}

func testBad(t *testing.T, size int, limits Limits, cases []badCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.files)
			if c.split == "" {
				c.split = Train
			}
			set, err := Open(context.Background(), dir, c.split, Options{Size: size, Limits: limits})
			if set != nil {
				t.Error("a set came with the error")
			}
			wantFault(t, err, dir, c.file, c.reason)
		})
	}
}

// ppmOf is a header followed by the samples of width × height RGB pixels.
func ppmOf(width, height int, header string) []byte {
	return append([]byte(header), ramp(3*width*height)...)
}

func fingerprint(t testing.TB, s *Set) string {
	t.Helper()
	sum, err := s.Fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
