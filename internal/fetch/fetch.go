// Package fetch puts well-known image sets into a folder: from their official
// addresses, or from an archive or a folder that is already here. What it makes
// is checked against published or recorded SHA-256 sums, and appears whole or
// not at all.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cordon/internal/atomicfile"
	"cordon/internal/event"
	"cordon/internal/regular"
)

// Set is an image set that can be fetched.
type Set struct {
	Name    string
	Summary string
	Page    string // where its authors describe it
	// Downloads are the files to download; together they hold Files.
	Downloads []Download
	// Files are what the folder of the set holds in the end.
	Files []File
	// MaxBytes bounds each download, and all that they unpack to.
	MaxBytes int64
}

// Download is one file at its official address.
type Download struct {
	Name string   // of the file
	URLs []string // tried in order
	// SHA256 is its sum in hex, "" where none is known: the sums of the files in
	// it decide then.
	SHA256 string
}

// File is a file of a set, or a folder of files.
type File struct {
	// Path is the file's name; a folder's ends in a slash.
	Path string
	// SHA256 is the sum in hex: of the file, or of what sha256sum prints for all
	// files of the folder in the order of their names. A file without a sum is
	// not checked and may be missing.
	SHA256 string
}

func (f File) isFolder() bool { return strings.HasSuffix(f.Path, "/") }

// Options say where a set comes from and goes to.
type Options struct {
	// Dir is the folder to make. While downloading, Dir + ".download" holds what
	// is there so far; the next Get continues with it.
	Dir string
	// From is an archive or a folder to take the set from; "" downloads it.
	From string
	// Client sends the requests; see NewClient.
	Client *http.Client
	// Pause is the time before a failed request is sent again.
	Pause time.Duration
	// Stall is the time without a byte after which a request has failed.
	Stall  time.Duration
	Events event.Sink
}

// DefaultOptions returns the options to download to dir.
func DefaultOptions(dir string) Options {
	return Options{Dir: dir, Client: NewClient(), Pause: 2 * time.Second, Stall: time.Minute, Events: event.Discard}
}

// Get makes the folder of a set; it must not exist.
func Get(ctx context.Context, set Set, opt Options) error {
	if _, err := os.Lstat(opt.Dir); err == nil {
		return fmt.Errorf("%s: %w", opt.Dir, fs.ErrExist)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(opt.Dir)), 0o755); err != nil {
		return err
	}
	if opt.From != "" {
		return install(ctx, set, opt, opt.From)
	}
	holding := filepath.Clean(opt.Dir) + ".download"
	if err := os.MkdirAll(holding, 0o755); err != nil {
		return err
	}
	var files []string
	for _, d := range set.Downloads {
		l := &loader{Options: opt, download: d, path: filepath.Join(holding, d.Name), most: set.MaxBytes}
		if err := l.run(ctx); err != nil {
			return fmt.Errorf("download %s: %w", d.Name, err)
		}
		files = append(files, l.path)
	}
	if err := install(ctx, set, opt, files...); err != nil {
		if ctx.Err() == nil && !ofMachine(err) {
			dropUnsummed(set.Downloads, files)
		}
		if os.Remove(holding) == nil { // nothing is left in it
			return err
		}
		return fmt.Errorf("%w (what need not be downloaded again is in %s: remove it to start over)", err, holding)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return os.Remove(holding)
}

// ofMachine tells errors of disks and rights from those of wrong content. A file
// that the content should have held does not exist either.
func ofMachine(err error) bool {
	var code unix.Errno
	return errors.As(err, &code) && code != unix.ENOENT || errors.Is(err, fs.ErrExist)
}

// dropUnsummed removes the downloads that have no sum of their own: the set was
// their only check, and with wrong bytes under their names it would fail for ever.
func dropUnsummed(downloads []Download, files []string) {
	for i, d := range downloads {
		if d.SHA256 == "" {
			os.Remove(files[i]) // best effort: the error that led here is the one to report
		}
	}
}

// install makes the folder from archives, folders and files.
func install(ctx context.Context, set Set, opt Options, from ...string) error {
	return atomicfile.Dir(opt.Dir, func(tmp string) error {
		p := newPicker(ctx, set, tmp)
		for _, name := range from {
			opt.Events.Send(event.Event{Type: event.Note, Message: "taking " + set.Name + " from " + name})
			if err := p.take(name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return set.Check(ctx, tmp)
	})
}

// ErrSum says that a file is not the one that was expected.
var ErrSum = errors.New("the SHA-256 differs from the expected one")

// Check compares the files in dir with the sums. Errors name the file.
func (s Set) Check(ctx context.Context, dir string) error {
	for _, f := range s.Files {
		if err := f.check(ctx, dir); err != nil {
			return fmt.Errorf("%s: %s: %w", s.Name, f.Path, err)
		}
	}
	return nil
}

func (f File) check(ctx context.Context, dir string) error {
	if f.SHA256 == "" {
		return nil
	}
	sum, err := f.sum(ctx, dir)
	if err != nil {
		var missing *fs.PathError
		if errors.As(err, &missing) {
			err = missing.Err // the folder may be a temporary
		}
		return err
	}
	if sum != f.SHA256 {
		return fmt.Errorf("%w: %s, not %s", ErrSum, sum, f.SHA256)
	}
	return nil
}

// sum computes what File.SHA256 describes.
func (f File) sum(ctx context.Context, dir string) (string, error) {
	name := filepath.Join(dir, f.Path)
	if !f.isFolder() {
		return sumFile(ctx, name)
	}
	entries, err := os.ReadDir(name) // in the order of names
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, e := range entries {
		sum, err := sumFile(ctx, filepath.Join(name, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s  %s\n", sum, e.Name())
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func sumFile(ctx context.Context, name string) (string, error) {
	f, err := regular.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &stoppable{ctx, f}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stoppable is a reader that ends when its context does.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(b)
}

// place returns where a file of an archive belongs in the set's folder, ""
// for one that does not, such as a hidden one.
func (s Set) place(name string) string {
	name = path.Clean(name)
	base, folder := path.Base(name), path.Base(path.Dir(name))
	if strings.HasPrefix(base, ".") {
		return ""
	}
	for _, f := range s.Files {
		switch {
		case f.isFolder() && folder+"/" == f.Path:
			return f.Path + base
		case f.Path == base:
			return base
		}
	}
	return ""
}

// isDownload says whether a file has the name of one of the set's downloads.
func (s Set) isDownload(base string) bool {
	return slices.ContainsFunc(s.Downloads, func(d Download) bool { return d.Name == base })
}
