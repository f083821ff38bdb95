package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// names lists a folder, hidden files too, so that temporaries show.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	long := strings.Repeat("x", 3*bufferSize)
	for _, want := range []string{"old", long, "new"} {
		if err := Write(path, text(want)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, want 0644", info.Mode().Perm())
	}
}

func TestWriteErrorKeepsOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	if err := Write(path, text("old")); err != nil {
		t.Fatal(err)
	}
	err := Write(path, func(w io.Writer) error {
		io.WriteString(w, strings.Repeat("x", 2*bufferSize))
		return syscall.ENOSPC
	})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name the cause and %s", err, path)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("old file now holds %d bytes", len(got))
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

// A device that is always full makes the flush fail, as a full disk does.
func TestWriteNoSpace(t *testing.T) {
	const full = "/dev/full"
	f, err := os.OpenFile(full, os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no device that is always full here")
	}
	if err := complete(f, buffered(text("x"))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
}

func TestWriteMissingFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "a.json")
	if err := Write(path, text("x")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestDir(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "set")
	fillOne := func(tmp string) error { return Write(filepath.Join(tmp, "a"), text("x")) }
	if err := Dir(path+"/", fillOne); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(path, "a")); string(got) != "x" {
		t.Errorf("a holds %q", got)
	}
	if err := Dir(path, fillOne); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("existing folder: got %v", err)
	}
	broken := errors.New("broken")
	other := filepath.Join(base, "other")
	err := Dir(other, func(tmp string) error {
		if err := fillOne(tmp); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if got := names(t, base); len(got) != 1 || got[0] != "set" {
		t.Errorf("folder holds %v, want only set", got)
	}
}

func TestSweepRemovesOnlyTemporaries(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.tmp-1") // a name a user may choose
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := os.CreateTemp(dir, temporaryPattern("model"))
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	if err := os.Mkdir(filepath.Join(dir, ".set.tmp-2"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir, "*.json"); err != nil || len(names(t, dir)) != 3 {
		t.Fatalf("%v; %v is left, want all", err, names(t, dir))
	}
	if err := Sweep(dir, "*"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("left after sweeping: %v", entries)
	}
}
