package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
			if train.Fingerprint() != train2.Fingerprint() || test.Fingerprint() != test2.Fingerprint() {
				t.Error("read back differently")
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
	if open(t, out, Train, 0).Fingerprint() != set.Fingerprint() {
		t.Error("read back differently")
	}
}

func TestWriteRefuses(t *testing.T) {
	read := func(files map[string][]byte, size int) *Set { return open(t, tree(t, files), Train, size) }
	for name, make := range map[string]func() (train, test *Set){
		"empty class":     func() (*Set, *Set) { return read(idxTree(), 0).Subset([]int{0, 1, 3}), nil },
		"resized CIFAR":   func() (*Set, *Set) { return read(cifarTree(), 16), nil },
		"mixed formats":   func() (*Set, *Set) { return read(idxTree(), 8), read(folderTree(t), 8) },
		"unknown format":  func() (*Set, *Set) { s := read(idxTree(), 0); s.Format = "tar"; return s, nil },
		"unsorted":        func() (*Set, *Set) { s := read(folderTree(t), 8); slices.Reverse(s.Classes); return s, nil },
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
