// Package atomicfile writes files and folders that appear complete or not at all.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const bufferSize = 1 << 18

// Write replaces the file at path with what write produces. The bytes go to a
// temporary file in the same folder, which is synced and renamed over path; on
// any error the temporary is removed and an older file at path is untouched.
// Errors name path.
func Write(path string, write func(io.Writer) error) error {
	return File(path, buffered(write))
}

func buffered(write func(io.Writer) error) func(*os.File) error {
	return func(f *os.File) error {
		w := bufio.NewWriterSize(f, bufferSize)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	}
}

// File is Write for content that is not written from start to end: fill gets
// the temporary file itself, which it must not close.
func File(path string, fill func(*os.File) error) error {
	if err := replace(path, fill); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func replace(path string, fill func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), temporaryPattern(path))
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			f.Close() // a second close is harmless here
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := complete(f, fill); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	done = true
	return syncDir(filepath.Dir(path))
}

// complete fills, syncs and closes f.
func complete(f *os.File, fill func(*os.File) error) error {
	if err := fill(f); err != nil {
		return err
	}
	// CreateTemp gives 0600; results are meant to be read by others.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// Dir makes the folder path from what fill puts into tmp, an empty folder
// beside it that is renamed to path once fill returns nil. It fails with
// fs.ErrExist if path exists; on any error the temporary is removed. Errors
// name path. Files that fill writes should be synced by fill (Write does).
func Dir(path string, fill func(tmp string) error) error {
	if err := makeDir(filepath.Clean(path), fill); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	return nil
}

func makeDir(path string, fill func(tmp string) error) (err error) {
	if err := absent(path); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), temporaryPattern(path))
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := fill(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	// Rename would replace an empty folder made in the meantime.
	if err := absent(path); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	done = true
	return syncDir(filepath.Dir(path))
}

func absent(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fs.ErrExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// temporaryPattern hides the temporary and shows whose it is.
func temporaryPattern(path string) string {
	return "." + filepath.Base(path) + ".tmp-*"
}

// IsTemporary tells whether a base name is that of a temporary of this package.
func IsTemporary(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, ".tmp-")
}

// Sweep removes the temporaries that killed processes left in the folder dir of
// files and folders whose names match pattern, as in filepath.Match. Nothing may
// be writing them.
func Sweep(dir, pattern string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		left, err := filepath.Match(temporaryPattern(pattern), e.Name())
		if err == nil && left {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
