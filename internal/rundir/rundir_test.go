package rundir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Of two runs that begin in a new folder at once one must be refused, and its
// manifest must not be there.
func TestRunsThatBeginAtOnce(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "run")
		var dirs [2]*Dir
		var group sync.WaitGroup
		for i := range dirs {
			group.Go(func() { dirs[i], _ = Open(path, Manifest{Seed: uint64(i)}) })
		}
		group.Wait()
		m, err := ReadManifest(path)
		for i, dir := range dirs {
			if dir == nil {
				continue
			}
			if err != nil || m.Seed != uint64(i) {
				t.Fatalf("run %d works in a folder with the manifest of %d (%v)", i, m.Seed, err)
			}
			dir.Close()
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	dir, err := Open(path, Manifest{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(path string, m Manifest, want string) {
		t.Helper()
		if _, err := Open(path, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	refused(path, Manifest{Seed: 1}, "another process")
	dir.Close()
	refused(path, Manifest{Seed: 2}, "another seed")

	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(foreign, Manifest{}, "not empty")
	if _, err := os.Stat(filepath.Join(foreign, workDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made in a folder that is refused: %v", err)
	}
}

// What a run leaves that is killed before its manifest must not end the next.
func TestOpenWithoutManifest(t *testing.T) {
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, workDir), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := Open(path, Manifest{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir.Close()
	if m, err := ReadManifest(path); err != nil || m.Seed != 1 {
		t.Errorf("manifest %+v, %v", m, err)
	}
}
