package fetch

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/therootcompany/xz"

	"cordon/internal/regular"
)

// Bounds of hostile archives.
const (
	maxEntries = 1 << 17
	// maxDictionary is the memory that an xz file may ask for. xz -9 asks for 64
	// MiB, archives packed with care for more.
	maxDictionary = 256 << 20
)

// picker takes the files of a set out of archives and folders. Only names of the
// set's own files are ever created, so that no name in an archive can lead
// anywhere else; names that try are refused all the same.
type picker struct {
	set     Set
	dir     string // where the files go
	entries int
	// unpacked bounds what is read of tar archives, written the files taken: a
	// sparse file in a tar archive is larger than what is read of it.
	unpacked, written budget
}

func newPicker(ctx context.Context, set Set, dir string) *picker {
	both := budget{ctx, set.MaxBytes}
	return &picker{set: set, dir: dir, unpacked: both, written: both}
}

// budget bounds bytes.
type budget struct {
	ctx  context.Context
	left int64
}

var errTooLarge = errors.New("unpacks to more than the set can have")

// reader returns r at the expense of the budget.
func (b *budget) reader(r io.Reader) io.Reader { return &spending{b, r} }

type spending struct {
	*budget
	r io.Reader
}

func (s *spending) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// take takes what it can use from a file of the set, an archive or a folder.
func (p *picker) take(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return p.folder(name)
	}
	f, err := regular.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if base := filepath.Base(name); p.set.place(base) != "" {
		return p.file(base, info.Mode().IsRegular(), f)
	}
	return p.archive(f, info.Size(), stem(name))
}

// stem is the name of an archive without its endings.
func stem(name string) string {
	base, _, _ := strings.Cut(filepath.Base(name), ".")
	return base
}

// archive tells the format by the content. An archive counts as a folder of its
// name, whether or not the files in it lie in one.
func (p *picker) archive(f *os.File, size int64, folder string) error {
	buffered := bufio.NewReaderSize(f, 1<<16)
	start, err := buffered.Peek(6)
	if err != nil {
		return errors.New("not an archive: too short")
	}
	var unpacked io.Reader = buffered
	switch {
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return p.zip(f, size, folder)
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		unpacked, err = gzip.NewReader(buffered)
	case bytes.HasPrefix(start, []byte("\xfd7zXZ\x00")):
		unpacked, err = xz.NewReader(buffered, maxDictionary)
	}
	if err != nil {
		return err
	}
	return p.tar(unpacked, folder)
}

func (p *picker) tar(r io.Reader, folder string) error {
	files := tar.NewReader(p.unpacked.reader(r))
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, tar.ErrHeader) {
			return errors.New("not a tar, tar.gz, tar.xz or zip archive, or a damaged one")
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		if err := p.entry(header.Name, folder, header.Typeflag == tar.TypeReg, files); err != nil {
			return err
		}
	}
}

func (p *picker) zip(r io.ReaderAt, size int64, folder string) error {
	files, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // entry has its own say
		return err
	}
	for _, f := range files.File {
		if f.FileInfo().IsDir() {
			continue
		}
		content, err := f.Open()
		if err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		err = p.entry(f.Name, folder, f.Mode().IsRegular(), content)
		content.Close() // only read
		if err != nil {
			return err
		}
	}
	return nil
}

// folder takes from a folder and those in it, and from archives there that have
// the name of a download; links are not followed.
func (p *picker) folder(name string) error {
	root, err := os.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return errors.Join(err, p.written.ctx.Err())
		}
		download := p.set.place(path) == "" && p.set.isDownload(d.Name())
		if p.set.place(path) == "" && !download {
			return p.count()
		}
		if !d.Type().IsRegular() {
			return p.entry(path, "", false, nil)
		}
		f, err := root.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if !download {
			return p.entry(path, "", true, f)
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return p.archive(f, info.Size(), stem(path))
	})
}

// entry takes one file of an archive that counts as a folder.
func (p *picker) entry(name, folder string, regular bool, r io.Reader) error {
	if err := p.count(); err != nil {
		return err
	}
	if !filepath.IsLocal(name) || strings.Contains(name, `\`) {
		return fmt.Errorf("%q leads out of the archive", name)
	}
	return p.file(path.Join(folder, name), regular, r)
}

func (p *picker) count() error {
	if p.entries++; p.entries > maxEntries {
		return fmt.Errorf("over %d files", maxEntries)
	}
	return nil
}

// file writes a file if it is one of the set's.
func (p *picker) file(name string, regular bool, r io.Reader) error {
	place := p.set.place(name)
	if place == "" {
		return nil
	}
	if !regular {
		return fmt.Errorf("%q is a link or a device, not a file", name)
	}
	target := filepath.Join(p.dir, filepath.FromSlash(place))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there twice", place)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, p.written.reader(r)); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
