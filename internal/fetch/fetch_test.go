package fetch

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cordon/internal/realdata"
)

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// content is what the files of the test set hold.
func content() map[string][]byte {
	return map[string][]byte{
		"one.bin":    bytes.Repeat([]byte("one"), 100_000),
		"two.bin":    []byte("two"),
		"pics/a.png": []byte("a"),
		"pics/b.png": []byte("b"),
		"names.txt":  []byte("cat\ndog\n"),
	}
}

// testSet is a small set whose downloads are at the given addresses.
func testSet(urls ...string) Set {
	files := content()
	listing := fmt.Sprintf("%s  a.png\n%s  b.png\n", hexSum(files["pics/a.png"]), hexSum(files["pics/b.png"]))
	return Set{
		Name: "small",
		Files: []File{
			{"one.bin", hexSum(files["one.bin"])},
			{"two.bin", hexSum(files["two.bin"])},
			{"pics/", hexSum([]byte(listing))},
			{"names.txt", ""},
		},
		Downloads: []Download{{Name: "small.tar.gz", URLs: urls, SHA256: hexSum(gzipped(tarOf(content())))}},
		MaxBytes:  1_000_000,
	}
}

// names is the order in which archives hold files.
func names(files map[string][]byte) []string {
	var out []string
	for _, name := range []string{"one.bin", "two.bin", "pics/a.png", "pics/b.png", "names.txt", "README"} {
		if files[name] != nil {
			out = append(out, name)
		}
	}
	return out
}

func tarOf(files map[string][]byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names(files) {
		w.WriteHeader(&tar.Header{Name: "set/" + name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg})
		w.Write(files[name])
	}
	w.Close()
	return b.Bytes()
}

// tarWith is a tar file with one entry.
func tarWith(h tar.Header, data string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h.Mode, h.Size = 0o644, int64(len(data))
	w.WriteHeader(&h)
	w.Write([]byte(data))
	w.Close()
	return b.Bytes()
}

// sparseTar is a tar file with two.bin as a hole of a terabyte. The writer
// refuses records of sparse files, but not the same with another letter.
func sparseTar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	size := "1000000000000"
	hole := append([]byte("1\n"+size+"\n0\n"), make([]byte, 512)...)[:512]
	w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: int64(len(hole)), Format: tar.FormatPAX, PAXRecords: map[string]string{
		"GNX.sparse.major": "1", "GNX.sparse.minor": "0", "GNX.sparse.name": "two.bin", "GNX.sparse.realsize": size,
	}})
	w.Write(hole)
	w.Close()
	return bytes.ReplaceAll(b.Bytes(), []byte("GNX."), []byte("GNU."))
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func zipOf(files map[string][]byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names(files) {
		f, _ := w.Create(name)
		f.Write(files[name])
	}
	w.Close()
	return b.Bytes()
}

func xzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	cmd := exec.Command("xz", "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no xz: %v", err)
	}
	return out
}

// save writes a file into a new folder.
func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// unpack gets the test set from a local archive or folder.
func unpack(t testing.TB, from string) (dir string, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "out")
	opt := DefaultOptions(dir)
	opt.From = from
	return dir, Get(context.Background(), testSet(), opt)
}

// wantSet checks that dir is the set and that nothing lies beside it.
func wantSet(t *testing.T, dir string) {
	t.Helper()
	for name, data := range content() {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if left := listing(t, dir); len(left) != 4 {
		t.Errorf("the folder holds %v", left)
	}
	if left := listing(t, filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("beside the folder lie %v", left)
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestArchives(t *testing.T) {
	files := content()
	files["README"] = []byte("not of the set")
	for name, data := range map[string][]byte{
		"a.tar":    tarOf(files),
		"a.tar.gz": gzipped(tarOf(files)),
		"a.tar.xz": xzipped(t, tarOf(files)),
		"a.zip":    zipOf(files),
		"a":        gzipped(tarOf(files)), // the content tells the format
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := unpack(t, save(t, name, data))
			if err != nil {
				t.Fatal(err)
			}
			wantSet(t, dir)
		})
	}
}

func TestFromFolder(t *testing.T) {
	from := t.TempDir()
	for name, data := range content() {
		path := filepath.Join(from, "deep", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := unpack(t, from)
	if err != nil {
		t.Fatal(err)
	}
	wantSet(t, dir)

	two := filepath.Join(from, "deep", "two.bin")
	if err := errors.Join(os.Rename(two, two+".real"), os.Symlink("two.bin.real", two)); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(t, from); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("a link: %v", err)
	}
}

// An archive counts as a folder of its name: TSRD's images lie flat in theirs.
func TestFlatArchiveIsAFolder(t *testing.T) {
	set := testSet()
	set.Files = set.Files[2:3]
	from := save(t, "pics.zip", func() []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, name := range []string{"a.png", "b.png"} {
			f, _ := w.Create(name)
			f.Write(content()["pics/"+name])
		}
		w.Close()
		return b.Bytes()
	}())
	opt := DefaultOptions(filepath.Join(t.TempDir(), "out"))
	opt.From = from
	if err := Get(context.Background(), set, opt); err != nil {
		t.Error(err)
	}
}

// TSRD comes in several archives: a folder of them will do.
func TestFolderOfArchives(t *testing.T) {
	set, from := testSet(), t.TempDir()
	set.Downloads = []Download{{Name: "first.zip"}, {Name: "second.tar.gz"}}
	first, second := content(), content()
	delete(first, "one.bin")
	for name := range second {
		if name != "one.bin" {
			delete(second, name)
		}
	}
	for name, data := range map[string][]byte{
		"first.zip": zipOf(first), "second.tar.gz": gzipped(tarOf(second)), "other.zip": []byte("not of the set"),
	} {
		if err := os.WriteFile(filepath.Join(from, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opt := DefaultOptions(filepath.Join(t.TempDir(), "out"))
	opt.From = from
	if err := Get(context.Background(), set, opt); err != nil {
		t.Fatal(err)
	}
	wantSet(t, opt.Dir)
}

// A full disk does not make what was downloaded wrong.
func TestErrorsOfTheMachine(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&fs.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}, true},
		{fmt.Errorf("x: %w", &fs.PathError{Op: "open", Path: "x", Err: unix.EACCES}), true},
		{fmt.Errorf("x: %w", fs.ErrExist), true},
		{&fs.PathError{Op: "open", Path: "x", Err: unix.ENOENT}, false},
		{fmt.Errorf("x: %w", ErrSum), false},
		{errors.New("not an archive: too short"), false},
	} {
		if got := ofMachine(c.err); got != c.want {
			t.Errorf("%v: of the machine %v, want %v", c.err, got, c.want)
		}
	}
}

// A named pipe would wait for a writer.
func TestFromPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(t, pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

func TestBadArchives(t *testing.T) {
	wrong, missing := content(), content()
	wrong["two.bin"] = []byte("tow")
	delete(missing, "pics/b.png")
	less := content()
	delete(less, "one.bin")
	twice := append(bytes.TrimRight(tarOf(map[string][]byte{"two.bin": []byte("two")}), "\x00"), make([]byte, 509)...)
	whole := gzipped(tarOf(content()))
	huge := content()
	huge["README"] = make([]byte, 2_000_000)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"wrong file":    {tarOf(wrong), "two.bin: the SHA-256 differs"},
		"missing file":  {tarOf(less), "one.bin: no such file"},
		"missing image": {zipOf(missing), "pics/: the SHA-256 differs"},
		"absolute":      {tarWith(tar.Header{Name: "/etc/two.bin"}, "two"), `"/etc/two.bin" leads out`},
		"parent":        {tarWith(tar.Header{Name: "../two.bin"}, "two"), `leads out`},
		"hidden parent": {tarWith(tar.Header{Name: "a/../../two.bin"}, "two"), `leads out`},
		"backslash":     {tarWith(tar.Header{Name: `..\two.bin`}, "two"), `leads out`},
		"link":          {tarWith(tar.Header{Name: "two.bin", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""), "is a link"},
		"hard link":     {tarWith(tar.Header{Name: "two.bin", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, ""), "is a link"},
		"device":        {tarWith(tar.Header{Name: "two.bin", Typeflag: tar.TypeChar}, ""), "is a link or a device"},
		"twice":         {append(twice[:1024:1024], tarOf(map[string][]byte{"two.bin": []byte("two")})...), "two.bin is there twice"},
		"cut":           {whole[:len(whole)/2], "unexpected EOF"},
		"empty":         {nil, "too short"},
		"nonsense":      {bytes.Repeat([]byte("nonsense"), 1000), "not a tar"},
		"huge":          {gzipped(tarOf(huge)), "unpacks to more"},
		"sparse":        {sparseTar(), "unpacks to more"},
		"huge zip":      {zipOf(map[string][]byte{"two.bin": make([]byte, 2_000_000)}), "unpacks to more"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := unpack(t, save(t, "a", c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left := listing(t, filepath.Dir(dir)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	opt := DefaultOptions(t.TempDir())
	opt.From = save(t, "a.tar", tarOf(content()))
	if err := Get(context.Background(), testSet(), opt); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledUnpacking(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	opt := DefaultOptions(filepath.Join(t.TempDir(), "out"))
	opt.From = save(t, "a.tar", tarOf(content()))
	if err := Get(ctx, testSet(), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The sets themselves: every sum and address is well formed, places are distinct.
func TestSets(t *testing.T) {
	for _, s := range Sets() {
		sums, places := []string{}, map[string]bool{}
		for _, f := range s.Files {
			sums = append(sums, f.SHA256)
			if places[f.Path] || s.place("x/"+strings.TrimSuffix(f.Path, "/")+map[bool]string{true: "/a.png"}[f.isFolder()]) == "" {
				t.Errorf("%s: %s", s.Name, f.Path)
			}
			places[f.Path] = true
		}
		for _, d := range s.Downloads {
			sums = append(sums, d.SHA256)
			if len(d.URLs) == 0 || !strings.HasPrefix(d.URLs[0], "http") || d.Name != filepath.Base(d.Name) {
				t.Errorf("%s: %+v", s.Name, d)
			}
		}
		for _, sum := range sums {
			if raw, err := hex.DecodeString(sum); err != nil || (len(raw) != 0 && len(raw) != sha256.Size) {
				t.Errorf("%s: sum %q", s.Name, sum)
			}
		}
	}
}

// The real files have the recorded sums.
func TestRealSums(t *testing.T) {
	for _, set := range Sets() {
		if set.Name == "cifar100" {
			continue // nobody has it at hand
		}
		t.Run(set.Name, func(t *testing.T) {
			dir := realdata.Dir(t, set.Name)
			if sub := filepath.Join(dir, "cifar-10-batches-bin"); set.Name == "cifar10" {
				dir = sub
			}
			if err := set.Check(context.Background(), dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzArchive unpacks hostile bytes: an error or not, nothing is created but the
// set's own files.
func FuzzArchive(f *testing.F) {
	files := content()
	files["one.bin"] = []byte("one")
	f.Add(tarOf(files))
	f.Add(gzipped(tarOf(files)))
	f.Add(zipOf(files))
	f.Add(tarWith(tar.Header{Name: "../two.bin"}, "two"))
	f.Add(tarWith(tar.Header{Name: "pics/link", Typeflag: tar.TypeSymlink, Linkname: "/"}, ""))
	// An empty xz file, and one that holds "two" (printf two | xz).
	for _, text := range []string{
		"fd377a585a000004e6d6b446000000001cdf44211fb6f37d010000000004595a",
		"fd377a585a000004e6d6b4460200210116000000742fe5a301000274776f00005dd379297528520300011b030b2fb9101fb6f37d010000000004595a",
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	set, base := testSet(), f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := filepath.Join(base, "out")
		archive := filepath.Join(base, "archive")
		if err := errors.Join(os.WriteFile(archive, data, 0o644), os.Mkdir(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		p := newPicker(context.Background(), set, dir)
		p.take(archive) // an error is as good as none
		for _, name := range listing(t, dir) {
			if set.place(name) == "" && name != "pics" {
				t.Errorf("created %q", name)
			}
		}
		if left := len(listing(t, base)); left != 2 {
			t.Errorf("%d entries beside the folder", left)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, text := range []string{"bytes 0-1/2", "bytes 5-9/*", "bytes */7", "bytes -1-2/3", "", "bytes 9223372036854775807-1/2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		start, total, err := parseContentRange(text)
		if err == nil && (start < 0 || total < -1 || (total >= 0 && start >= total)) {
			t.Errorf("%q gives %d of %d", text, start, total)
		}
	})
}
