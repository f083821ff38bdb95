package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrNoSplit says that a set has no part of the wanted name.
var ErrNoSplit = errors.New("the set has no such split")

// ErrNeedsSize says that images in files of their own were to be read without a
// Size.
var ErrNeedsSize = errors.New("images in files of their own need an image size")

// Options says how a set is read.
type Options struct {
	// Size is the height and width of the images in memory, 1 … 1024 pixels;
	// other images are resized to it without keeping their aspect. 0 keeps the
	// size of IDX and CIFAR images and is an error for images in files of their own.
	Size int
	// SkipBad leaves bad image files out and lists them in
	// Set.Skipped, where otherwise the first one is an error.
	SkipBad bool
	// Crop takes of each image only the box that a manifest or TSRD's
	// annotations give for it; images without a box stay whole. ErrNoBoxes if
	// the set gives none.
	Crop bool
	// Store names a folder, made where it is missing, in which decoded pixels
	// are kept and mapped into memory from, so that sets may be larger than
	// memory. Those of image files stay there; those of IDX and CIFAR files are
	// read anew each time, into a file without a name. Empty holds pixels in
	// memory. See Set.Close.
	Store string
	// Limits bounds what is accepted; zero fields take DefaultLimits.
	Limits Limits
	// Progress, if not nil, is called after each image that was decoded or
	// resized, from one goroutine at a time.
	Progress func(done, total int)
}

const maxSize = 1024

// The formats, as Set.Format names them.
const (
	formatIDX      = "idx"
	formatCIFAR10  = "cifar10"
	formatCIFAR100 = "cifar100"
	formatFolder   = "folder"
	formatCSV      = "csv"
	formatJSONL    = "jsonl"
	formatTSRD     = "tsrd"
)

// Formats returns the formats that Write makes, as Set.Format names them.
func Formats() []string {
	return []string{formatIDX, formatCIFAR10, formatCIFAR100, formatFolder, formatCSV, formatJSONL}
}

// Open reads one split of the image set in the folder dir. The files there
// tell the format:
//
//   - IDX (MNIST): train-images-idx3-ubyte, t10k-images-idx3-ubyte and their
//     labels, plain or .gz;
//   - CIFAR-10 binary: data_batch_1.bin …, test_batch.bin;
//   - CIFAR-100 binary: train.bin, test.bin (fine labels);
//   - a manifest, manifest.csv or manifest.jsonl: path, label, split, box;
//   - TSRD: its annotation files beside tsrd-train and TSRD-Test;
//   - otherwise a folder of class folders, train/<class>/<image> and
//     test/<class>/<image>, or <class>/<image>, which is a training split only.
//
// Bad input is a *FormatError. A split that is not there is ErrNoSplit. A set
// has two classes or more, and its training split has images of each.
func Open(ctx context.Context, dir string, split Split, opt Options) (*Set, error) {
	if split != Train && split != Test {
		return nil, fmt.Errorf("split %q: want %q or %q", split, Train, Test)
	}
	if opt.Size < 0 || opt.Size > maxSize {
		return nil, fmt.Errorf("image size %d: want 0 … %d", opt.Size, maxSize)
	}
	opt.Limits = opt.limits()
	root, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	src := &source{root: root, dir: dir, limits: opt.Limits}
	set, err := src.read(ctx, split, opt)
	if err != nil {
		return nil, src.name(".", err)
	}
	set.Name = baseName(dir)
	if err := set.check(split); err != nil {
		set.Close() // what it would say matters less
		return nil, src.name(".", err)
	}
	return set, nil
}

// openFolder opens a folder. It looks first: opening a pipe would wait for a writer.
func openFolder(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, fmt.Errorf("open image set: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open image set: %w", err)
	}
	return root, nil
}

func (s *source) read(ctx context.Context, split Split, opt Options) (*Set, error) {
	entries, err := s.list(".", s.limits.MaxSamples)
	if err != nil {
		return nil, err
	}
	c, where := findCIFAR(s, entries)
	if opt.Crop && (hasIDX(entries) || c != nil) {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrNoBoxes)
	}
	if hasIDX(entries) {
		return resized(ctx, opt)(readIDX(s, split, opt))
	}
	if c != nil {
		return resized(ctx, opt)(c.read(ctx, s, where, split, opt))
	}
	if opt.Size == 0 {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrNeedsSize)
	}
	listImages := listFolder
	switch {
	case hasManifest(entries):
		listImages = listManifest
	case hasTSRD(entries):
		listImages = listTSRD
	}
	l, err := listImages(s, entries, split, opt)
	if err != nil {
		return nil, err
	}
	return l.read(ctx, opt)
}

// check holds for every format.
func (s *Set) check(split Split) error {
	if len(s.Classes) < 2 {
		return fault(-1, "the set has %d class, but two or more are needed", len(s.Classes))
	}
	if s.Len() == 0 {
		return fault(-1, "the %s split has no images%s", split, s.whySkipped())
	}
	if split == Test {
		return nil
	}
	if empty := slices.Index(s.Counts(), 0); empty >= 0 {
		return fault(-1, "class %q has no images in the training split%s", s.Classes[empty], s.whySkipped())
	}
	return nil
}

// whySkipped names the images that were left out, for an error that they may cause.
func (s *Set) whySkipped() string {
	if len(s.Skipped) == 0 {
		return ""
	}
	const most = 5
	var b strings.Builder
	fmt.Fprintf(&b, "; unreadable files: %d", len(s.Skipped))
	for _, f := range s.Skipped[:min(most, len(s.Skipped))] {
		fmt.Fprintf(&b, "; %v", &f)
	}
	if len(s.Skipped) > most {
		b.WriteString("; …")
	}
	return b.String()
}

func baseName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return filepath.Base(dir)
}

func noSplit(s *source, split Split) error {
	return fmt.Errorf("%s: %s: %w", s.dir, split, ErrNoSplit)
}

// source is the folder a set is read from. Nothing is opened outside of it:
// os.Root refuses links that are absolute or lead out.
type source struct {
	root   *os.Root
	dir    string
	limits Limits
}

// name puts the name of a file into a FormatError that has none.
func (s *source) name(name string, err error) error {
	var bad *FormatError
	if errors.As(err, &bad) && bad.Path == "" {
		bad.Path = filepath.Join(s.dir, name)
	}
	return err
}

// locate puts the name of a file into an error about it, and makes faults of
// the file, but not those of the machine, a FormatError.
func (s *source) locate(name string, err error) error {
	var bad *FormatError
	if err == nil || errors.As(err, &bad) {
		return s.name(name, err)
	}
	var errno syscall.Errno
	machine := errors.As(err, &errno) && (errno.Temporary() || errno == syscall.ENOMEM || errno == syscall.EIO)
	var pathErr *fs.PathError
	if !machine && errors.As(err, &pathErr) {
		return &FormatError{Path: filepath.Join(s.dir, name), Offset: -1, Reason: s.openReason(name, pathErr), Err: err}
	}
	return err
}

// openReason says why a file cannot be opened.
func (s *source) openReason(name string, err *fs.PathError) string {
	info, statErr := s.root.Lstat(name)
	if statErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		if errors.Is(err, fs.ErrNotExist) {
			return "link to a file that does not exist"
		}
		return "link that is absolute or leaves the folder: " + err.Err.Error()
	}
	return "cannot be read: " + err.Err.Error()
}

// open opens a regular file and returns its size.
func (s *source) open(name string) (*os.File, int64, error) {
	// O_NONBLOCK: opening a named pipe must not wait for a writer.
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, s.locate(name, err)
	}
	info, err := f.Stat()
	if err == nil {
		err = s.checkFile(info)
	}
	if err != nil {
		f.Close()
		return nil, 0, s.locate(name, err)
	}
	return f, info.Size(), nil
}

func (s *source) checkFile(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fault(-1, "not a regular file")
	}
	if info.Size() > s.limits.MaxFileBytes {
		return fault(-1, "file of %d bytes is over the limit of %d", info.Size(), s.limits.MaxFileBytes)
	}
	return nil
}

// list returns the entries of a folder, at most limit, sorted by name, without
// hidden ones (those that start with a dot).
func (s *source) list(name string, limit int) ([]fs.DirEntry, error) {
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, s.locate(name, err)
	}
	defer f.Close()
	entries, err := f.ReadDir(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, s.locate(name, err)
	}
	if len(entries) > limit {
		return nil, s.locate(name, fault(-1, "over %d entries", limit))
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// isDir tells whether an entry is a folder or a link to one inside the source.
func (s *source) isDir(name string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := s.root.Stat(name)
	return err == nil && info.IsDir()
}

// has tells whether a name is among the entries.
func has(entries []fs.DirEntry, name string) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
}

// content makes a fault of the file of an error met while reading it, unless
// the machine is to blame.
func content(err error) error {
	var bad *FormatError
	var pathErr *fs.PathError
	if err == nil || errors.As(err, &bad) || errors.As(err, &pathErr) {
		return err
	}
	reason := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "file ends too early"
	}
	return &FormatError{Offset: -1, Reason: reason, Err: err}
}
