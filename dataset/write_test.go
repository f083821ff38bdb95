package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWriteReadsBack(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string][]byte
		size  int
	}{
		"idx":      {idxTree(), 0},
		"cifar10":  {cifarTree(), 0},
		"cifar100": {cifar100Tree(), 0},
		"folder":   {folderTree(t), 8},
		"csv":      {manifestTree(t, "manifest.csv", "path,label,split\na/2.png,dog,\na/1.png,cat,\n3.png,cat,\n4.png,dog,test\n"), 8},
		"jsonl":    {manifestTree(t, "manifest.jsonl", goodJSONL), 8},
		"tsrd":     {tsrdTree(t, []int{9, 11, 100, 9}, []int{100}), 8},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			train, test := open(t, dir, Train, c.size), open(t, dir, Test, c.size)
			out := filepath.Join(t.TempDir(), "out")
			written, err := Write(context.Background(), out, train, test, nil)
			if err != nil {
				t.Fatal(err)
			}
			train2, test2 := open(t, out, Train, c.size), open(t, out, Test, c.size)
			if fingerprint(t, train) != fingerprint(t, train2) || fingerprint(t, test) != fingerprint(t, test2) {
				t.Error("read back differently")
			}
			if want := strings.Replace(name, "tsrd", "csv", 1); train2.Format != want {
				t.Errorf("format %s, want %s", train2.Format, want)
			}
			if !slices.Equal(train.Classes, train2.Classes) || !slices.Equal(train.superclass, train2.superclass) {
				t.Error("classes differ")
			}
			for i, key := range written.Keys {
				if written.Index[i] != i || train2.Key(i) != key {
					t.Errorf("image %d is at %d, key %q", i, written.Index[i], key)
				}
			}
			if _, err := Write(context.Background(), out, train, test, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("second write: %v, want ErrExist", err)
			}
		})
	}
}

// Relabelled images move to another folder, where names may clash.
func TestWriteFolderMoves(t *testing.T) {
	train := open(t, tree(t, folderTree(t)), Train, 8)
	train.Labels[0] = 1 // cat/a.png, and there is a dog/a.png
	out := filepath.Join(t.TempDir(), "out")
	calls := 0
	written, err := Write(context.Background(), out, train, nil, func(done, total int) { calls++ })
	if err != nil || calls != 4 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	if want := []string{"train/dog/a.png", "train/cat/b.png", "train/dog/a-2.png", "train/dog/c.png"}; !slices.Equal(written.Keys, want) {
		t.Errorf("keys %v, want %v", written.Keys, want)
	}
	again := open(t, out, Train, 8)
	for i := range train.Len() {
		j := written.Index[i]
		if !slices.Equal(train.Image(i), again.Image(j)) || train.Labels[i] != again.Labels[j] || again.Key(j) != written.Keys[i] {
			t.Errorf("image %d is not at %d (%s)", i, j, again.Key(j))
		}
	}
	if _, err := Open(context.Background(), out, Test, Options{Size: 8}); !errors.Is(err, ErrNoSplit) {
		t.Errorf("test split: %v", err)
	}
}

func TestWriteCIFARFiles(t *testing.T) {
	const n = 2*cifarFileImages + 1
	set := &Set{
		Format: "cifar10", Height: 32, Width: 32, Channels: 3,
		Pixels: make([]byte, n*cifarPixels), Labels: make([]int32, n),
	}
	for i := range 10 {
		set.Classes = append(set.Classes, fmt.Sprint("c", i))
	}
	for i := range n {
		set.Labels[i] = int32(i * 7 % 10)
		set.Image(i)[5] = byte(i)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Write(context.Background(), out, set, nil, nil); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(out)
	if len(entries) != 4 {
		t.Errorf("%d files, want 3 batches and the names", len(entries))
	}
	if fingerprint(t, open(t, out, Train, 0)) != fingerprint(t, set) {
		t.Error("read back differently")
	}
}

func TestWriteRefuses(t *testing.T) {
	read := func(files map[string][]byte, size int) *Set { return open(t, tree(t, files), Train, size) }
	for name, make := range map[string]func() (train, test *Set){
		"missing pixel": func() (*Set, *Set) {
			s := read(idxTree(), 0)
			s.Pixels = s.Pixels[1:]
			return s, nil
		},
		"empty class":     func() (*Set, *Set) { return read(idxTree(), 0).Subset([]int{0, 1, 3}), nil },
		"resized CIFAR":   func() (*Set, *Set) { return read(cifarTree(), 16), nil },
		"mixed formats":   func() (*Set, *Set) { return read(idxTree(), 8), read(folderTree(t), 8) },
		"unknown format":  func() (*Set, *Set) { s := read(idxTree(), 0); s.Format = "tar"; return s, nil },
		"unsorted":        func() (*Set, *Set) { s := read(folderTree(t), 8); slices.Reverse(s.Classes); return s, nil },
		"colour as idx":   func() (*Set, *Set) { return as(read(folderTree(t), 8), "idx"), nil },
		"grey as cifar":   func() (*Set, *Set) { return as(read(idxTree(), 0), "cifar10"), nil },
		"few classes":     func() (*Set, *Set) { return as(read(folderTree(t), 32), "cifar10"), nil },
		"unsorted csv":    func() (*Set, *Set) { s := as(read(idxTree(), 0), "csv"); slices.Reverse(s.Classes); return s, nil },
		"class leads out": func() (*Set, *Set) { s := read(folderTree(t), 8); s.Classes[0] = "../cat"; return s, nil },
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			train, test := make()
			if _, err := Write(context.Background(), filepath.Join(base, "out"), train, test, nil); err == nil {
				t.Error("no error")
			}
			if entries, _ := os.ReadDir(base); len(entries) != 0 {
				t.Errorf("left %v behind", entries)
			}
		})
	}
}

func TestWriteCancelled(t *testing.T) {
	train := open(t, tree(t, folderTree(t)), Train, 8)
	base := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, filepath.Join(base, "out"), train, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(base); len(entries) != 0 {
		t.Errorf("left %v behind", entries)
	}
}

// as returns the set in another format.
func as(s *Set, format string) *Set {
	s.Format = format
	return s
}

// What another format can hold it holds, in three channels or one.
func TestWriteConverts(t *testing.T) {
	grey, colour := open(t, tree(t, idxTree()), Train, 4), open(t, tree(t, cifarTree()), Train, 0)
	for _, c := range []struct {
		set    *Set
		format string
		size   int
	}{
		{grey, "csv", 4},
		{grey, "jsonl", 4},
		{grey, "folder", 4},
		{colour, "csv", 32},
		{colour, "folder", 32},
		{colour, "cifar10", 0},
	} {
		t.Run(c.set.Format+" as "+c.format, func(t *testing.T) {
			from := *c.set
			first, second := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "back")
			written, err := Write(context.Background(), first, as(&from, c.format), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			there := open(t, first, Train, c.size)
			if there.Format != c.format || there.Channels != 3 || !slices.Equal(there.Classes, c.set.Classes) {
				t.Fatalf("read as %s with %d channels, classes %v", there.Format, there.Channels, there.Classes)
			}
			for i := range from.Len() {
				at := written.Index[i]
				if !slices.Equal(there.Image(at), from.withChannels(i, 3)) || there.Labels[at] != from.Labels[i] {
					t.Errorf("image %d differs", i)
				}
			}
			if _, err := Write(context.Background(), second, as(there, c.set.Format), nil, nil); err != nil {
				t.Fatal(err)
			}
			back := open(t, second, Train, 0)
			for i := range from.Len() {
				if at := written.Index[i]; !slices.Equal(back.Image(at), c.set.Image(i)) || back.Labels[at] != from.Labels[i] {
					t.Errorf("image %d differs after the way back", i)
				}
			}
		})
	}
}

// Eleven numbered classes: a folder sorts "10" before "2", a manifest after "9".
func TestInFormatOrdersClasses(t *testing.T) {
	numbered := &Set{Format: "idx", Height: 1, Width: 1, Channels: 1}
	for i := range 11 {
		numbered.Classes = append(numbered.Classes, strconv.Itoa(i))
		numbered.Labels, numbered.Pixels = append(numbered.Labels, int32(i)), append(numbered.Pixels, byte(20*i))
	}
	set := numbered
	for _, format := range []string{"csv", "folder", "jsonl", "folder", "csv", "idx"} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Write(t.Context(), out, set.InFormat(format), nil, nil); err != nil {
			t.Fatal(err)
		}
		set = open(t, out, Train, 1)
		for i := range set.Len() {
			if class, want := set.Classes[set.Labels[i]], strconv.Itoa(int(set.Image(i)[0])/20); class != want {
				t.Errorf("%s: an image of class %s is in class %s", format, want, class)
			}
		}
	}
	if !slices.Equal(numbered.Labels, []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Error("the labels of the set itself changed")
	}
}

// A manifest may list files whose names are nothing but an extension, or hidden.
// Names that were numbered apart do not meet those that others had already.
func TestPNGNames(t *testing.T) {
	set := &Set{Classes: []string{"a"}, Labels: make([]int32, 6), Height: 1, Width: 1, Channels: 1}
	set.Files = []string{"1/x.png", "2/x.png", "3/x-3.png", "4/x.png", "5/x.png", "6/x-3.png"}
	got := set.pngNames(Train, func(Split, string) string { return "d" })
	want := []string{"d/x.png", "d/x-2.png", "d/x-3.png", "d/x-4.png", "d/x-5.png", "d/x-3-2.png"}
	if !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

func TestWriteShowsHiddenNames(t *testing.T) {
	set := open(t, tree(t, folderTree(t)), Train, 8)
	set.Files = slices.Clone(set.Files)
	set.Files[0], set.Files[1] = "a/.png", "b/..x.png"
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Write(t.Context(), out, set, nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := open(t, out, Train, 8).Len(); n != set.Len() {
		t.Errorf("%d of %d images are read back", n, set.Len())
	}
}
