package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openStored(t testing.TB, dir string, opt Options) *Set {
	t.Helper()
	set, err := Open(context.Background(), dir, Train, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// stores lists the files in a store's folder.
func stores(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func TestStore(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"folder": folderTree(t), "csv": manifestTree(t, "manifest.csv", goodCSV), "tsrd": tsrdTree(t, []int{0, 1, 2}, []int{0}),
	} {
		t.Run(name, func(t *testing.T) {
			dir, store := tree(t, files), filepath.Join(t.TempDir(), "made", "here")
			want := open(t, dir, Train, 8)
			decoded := 0
			opt := Options{Size: 8, Store: store, Progress: func(int, int) { decoded++ }}
			for range 2 {
				set := openStored(t, dir, opt)
				if fingerprint(t, set) != fingerprint(t, want) || !slices.Equal(set.Files, want.Files) || cap(set.Image(0)) != set.ImageBytes() {
					t.Error("the stored set differs")
				}
				if err := errors.Join(set.Close(), set.Close()); err != nil {
					t.Error(err)
				}
			}
			if decoded != want.Len() || len(stores(t, store)) != 1 {
				t.Errorf("decoded %d times, %v in the store", decoded, stores(t, store))
			}
		})
	}
	if err := open(t, tree(t, idxTree()), Train, 0).Close(); err != nil {
		t.Error(err)
	}
}

// Whatever the pixels depend on makes another store.
func TestStoreFollowsSource(t *testing.T) {
	dir, store := tree(t, manifestTree(t, "manifest.csv", "path,label,x1,y1,x2,y2\na/1.png,cat,0,0,3,3\na/2.png,dog,0,0,3,3\n")), t.TempDir()
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Unix(1e9, 0)
	if err := os.Chtimes(filepath.Join(dir, "a/1.png"), past, past); err != nil {
		t.Fatal(err)
	}
	known := 0
	check := func(what string, opt Options, more int) *Set {
		t.Helper()
		opt.Store = store
		set := openStored(t, dir, opt)
		opt.Store = ""
		if fingerprint(t, set) != fingerprint(t, openStored(t, dir, opt)) {
			t.Errorf("%s: the store is stale", what)
		}
		if known += more; len(stores(t, store)) != known {
			t.Errorf("%s: %d stores, want %d", what, len(stores(t, store)), known)
		}
		return set
	}
	check("first", Options{Size: 8}, 1)
	check("again", Options{Size: 8}, 0)
	check("size", Options{Size: 4}, 1)
	check("crop", Options{Size: 4, Crop: true}, 1)
	// As large as before, and as old.
	old, _ := os.ReadFile(filepath.Join(dir, "a/1.png"))
	other := pngOf(t, textured(8, 77))
	put("a/1.png", append(other, make([]byte, max(0, len(old)-len(other)))...))
	if err := os.Chtimes(filepath.Join(dir, "a/1.png"), past, past); err != nil {
		t.Fatal(err)
	}
	check("content", Options{Size: 8}, 1)
	put("manifest.csv", []byte("path,label\na/1.png,eel\na/2.png,dog\n"))
	if set := check("label", Options{Size: 8}, 0); !slices.Equal(set.Classes, []string{"dog", "eel"}) || set.Labels[0] != 1 {
		t.Errorf("label: classes %v, labels %v", set.Classes, set.Labels)
	}
	put("manifest.csv", []byte("path,label\na/2.png,dog\na/1.png,eel\n"))
	check("order", Options{Size: 8}, 1)
}

func TestStoreSkipsBad(t *testing.T) {
	dir, store := tree(t, with(folderTree(t), map[string][]byte{
		"train/cat/aa.png": []byte("bad"), "train/dog/b.png": hugePNG(100_000, 100_000),
	})), t.TempDir()
	if _, err := Open(context.Background(), dir, Train, Options{Size: 8, Store: store}); err == nil || len(stores(t, store)) != 0 {
		t.Errorf("without SkipBad: error %v, store %v", err, stores(t, store))
	}
	_, wantErr := Open(context.Background(), dir, Train, Options{Size: 8})
	want := openStored(t, dir, Options{Size: 8, SkipBad: true})
	for range 2 {
		set := openStored(t, dir, Options{Size: 8, SkipBad: true, Store: store})
		if fingerprint(t, set) != fingerprint(t, want) || !slices.Equal(set.Files, want.Files) || len(set.Skipped) != 2 {
			t.Errorf("files %v, skipped %v", set.Files, set.Skipped)
		}
		for i := range set.Skipped {
			if set.Skipped[i].Error() != want.Skipped[i].Error() {
				t.Errorf("skipped %v, want %v", &set.Skipped[i], &want.Skipped[i])
			}
		}
	}
	// A store that leaves images out is no way around them.
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, Store: store})
	if err == nil || err.Error() != wantErr.Error() || len(stores(t, store)) != 1 {
		t.Errorf("found again without SkipBad: %v, want %v", err, wantErr)
	}
}

// What is skipped where nothing is bad makes no other store.
func TestStoreSharedBySkipBad(t *testing.T) {
	dir, store := tree(t, folderTree(t)), t.TempDir()
	for _, skip := range []bool{true, false, true} {
		openStored(t, dir, Options{Size: 8, SkipBad: skip, Store: store})
	}
	if len(stores(t, store)) != 1 {
		t.Errorf("stores %v", stores(t, store))
	}
}

func TestStoreAllBad(t *testing.T) {
	dir := tree(t, map[string][]byte{"a/1.png": {}, "b/1.png": {}})
	for range 2 {
		_, err := Open(context.Background(), dir, Train, Options{Size: 8, SkipBad: true, Store: t.TempDir()})
		wantFault(t, err, dir, ".", "has no images")
	}
}

func TestStoreCancelled(t *testing.T) {
	store := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Open(ctx, tree(t, folderTree(t)), Train, Options{Size: 8, Store: store, Progress: func(int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(stores(t, store)) != 0 {
		t.Errorf("error %v, store %v", err, stores(t, store))
	}
}

// What is wrong with the store's folder is not blamed on the source.
func TestStoreNowhere(t *testing.T) {
	dir, file := tree(t, folderTree(t)), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, Store: file})
	var bad *FormatError
	if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

func TestBadStore(t *testing.T) {
	dir, store := tree(t, folderTree(t)), t.TempDir()
	opt := Options{Size: 8, Store: store}
	openStored(t, dir, opt).Close()
	path := filepath.Join(store, stores(t, store)[0])
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	for name, c := range map[string]struct {
		data   []byte
		reason string
	}{
		"empty":            {nil, "ends too early"},
		"cut":              {good[:len(good)-1], "a cut one"},
		"start cut":        {good[1:], "bytes of pixels"},
		"longer":           {append([]byte{0}, good...), "bytes of pixels"},
		"metadata length":  {append(binary.LittleEndian.AppendUint64(slices.Clone(good[:len(good)-16]), 1<<40), storeMagic...), "cannot be"},
		"metadata":         {replaced(`{"version"`, `["version"`), "metadata: "},
		"other version":    {replaced(`"version":1`, `"version":2`), "of other images"},
		"other key":        {replaced(`"key":"`, `"key":"x`), "metadata: "},
		"more metadata":    {append(append(slices.Clone(good[:len(good)-16]), ' '), append(binary.LittleEndian.AppendUint64(nil, binary.LittleEndian.Uint64(good[len(good)-16:])+1), storeMagic...)...), "more than one value"},
		"count":            {replaced(`"images":4`, `"images":3`), "3 images and 0 bad"},
		"negative count":   {replaced(`"images":4`, `"images":-`), "metadata: "},
		"other image size": {replaced(`"image_bytes":192`, `"image_bytes":191`), "of other images"},
	} {
		if err := os.WriteFile(path, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		set, err := Open(context.Background(), dir, Train, opt)
		var bad *FormatError
		if set != nil || !errors.As(err, &bad) || bad.Path != path || !strings.Contains(bad.Reason, c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzStore(f *testing.F) {
	want := storeMetadata{Version: storeVersion, Key: "k", Images: 3, ImageBytes: 2}
	for _, meta := range []storeMetadata{want, {Version: storeVersion, Key: "k", Images: 2, ImageBytes: 2, Bad: []storeBad{{Index: 1}}}} {
		end, err := meta.encode()
		if err != nil {
			f.Fatal(err)
		}
		data := append(make([]byte, meta.Images*meta.ImageBytes), end...)
		if _, err := parseMetadata(bytes.NewReader(data), int64(len(data)), want); err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		meta, err := parseMetadata(bytes.NewReader(data), int64(len(data)), want)
		var bad *FormatError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("%v is not a FormatError", err)
			}
			return
		}
		if meta.Images*meta.ImageBytes > len(data) || meta.Images+len(meta.Bad) != want.Images {
			t.Fatalf("%+v passed", meta)
		}
		for _, b := range meta.Bad {
			if b.Index < 0 || b.Index >= want.Images {
				t.Fatalf("%+v passed", meta)
			}
		}
	})
}

// What a killed process left goes when the next store is written, unless a
// process is writing one.
func TestStoreSweepsUnfinished(t *testing.T) {
	dir, store := tree(t, folderTree(t)), t.TempDir()
	left, other := filepath.Join(store, ".key.pixels.tmp-1"), filepath.Join(store, ".report.json.tmp-1")
	for _, name := range []string{left, other} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(writer.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	openStored(t, dir, Options{Size: 8, Store: store})
	if _, err := os.Stat(left); err != nil {
		t.Errorf("a store that is being written is gone: %v", err)
	}
	writer.Close()
	openStored(t, dir, Options{Size: 16, Store: store})
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unfinished store stays: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another file is gone: %v", err)
	}
}

// Files of many images are read through the store, and nothing stays in it.
func TestStoreOfPackedFiles(t *testing.T) {
	packed := map[string][]byte{}
	for name, data := range idxTree() {
		packed[name+".gz"] = zipped(data)
	}
	for name, files := range map[string]map[string][]byte{
		"idx": idxTree(), "gz": packed, "cifar10": cifarTree(), "cifar100": cifar100Tree(),
	} {
		for _, size := range []int{0, 8} {
			dir, store := tree(t, files), filepath.Join(t.TempDir(), "made", "here")
			for _, split := range []Split{Train, Test} {
				want := open(t, dir, split, size)
				got, err := Open(context.Background(), dir, split, Options{Size: size, Store: store})
				if err != nil {
					t.Fatal(err)
				}
				if fingerprint(t, got) != fingerprint(t, want) || !slices.Equal(got.Labels, want.Labels) {
					t.Errorf("%s at %d, %s: the set differs", name, size, split)
				}
				if err := errors.Join(got.Close(), got.Close()); err != nil {
					t.Error(err)
				}
			}
			if left := stores(t, store); len(left) != 0 {
				t.Errorf("%s at %d: %v in the store", name, size, left)
			}
		}
	}
}

// A store that cannot be is an error of the store, not of the files.
func TestStoreOfPackedFilesErrors(t *testing.T) {
	dir, store := tree(t, idxTree()), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(store, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, Train, Options{Store: store})
	var bad *FormatError
	if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), "store: 72 bytes in "+store) {
		t.Errorf("error %v", err)
	}
}

// A store of other decoders must not be taken for one of these.
func TestStoreKeyHasTheDecoders(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\t"+imageModule+"\n") {
		t.Errorf("%s is not what go.mod requires: stores would keep pixels of another version", imageModule)
	}
}
