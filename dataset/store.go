package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"cordon/internal/atomicfile"
)

// A store is a file of the decoded pixels of a listing: the pixels of one
// image after another, a JSON object about them, its length as a little-endian
// 64-bit number, and the magic. Its name and its key are a hash of what the
// pixels were made from. Labels and classes are not in it: they are read from
// the source every time.
const (
	storeVersion     = 1
	storeMagic       = "cordonpx"
	storeFooter      = 8 + len(storeMagic)
	maxStoreMetadata = 1 << 30
	storeExtension   = ".pixels"
)

// imageModule decodes and scales beside Go's own packages. Binaries under test do
// not know their modules, so a test compares it with go.mod.
const imageModule = "golang.org/x/image v0.47.0"

// storeMetadata is the JSON object.
type storeMetadata struct {
	Version    int        `json:"version"`
	Key        string     `json:"key"`
	Images     int        `json:"images"`
	ImageBytes int        `json:"image_bytes"`
	Bad        []storeBad `json:"bad,omitempty"` // left out, in ascending order
}

// storeBad is an image of the listing that could not be decoded.
type storeBad struct {
	Index  int    `json:"index"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

// stored maps the pixels of the set from the store, which is written first if
// it is not there.
func (l *listing) stored(ctx context.Context, set *Set, opt Options) error {
	if set.Len() > opt.Limits.MaxSamples {
		return fault(-1, "%d images are over the limit of %d", set.Len(), opt.Limits.MaxSamples)
	}
	key, err := l.storeKey(ctx, opt)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(opt.Store, 0o755); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	path := filepath.Join(opt.Store, key+storeExtension)
	want := storeMetadata{Version: storeVersion, Key: key, Images: set.Len(), ImageBytes: set.ImageBytes()}
	err = l.openStore(set, path, want)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder, err := lockStores(opt.Store)
	if err != nil {
		return err
	}
	defer folder.Close()
	err = atomicfile.File(path, func(f *os.File) error { return l.writeStore(ctx, f, want, opt) })
	if err != nil {
		return err
	}
	return l.openStore(set, path, want)
}

// lockStores keeps other processes from removing unfinished stores from a folder
// until it is closed. It first removes those that killed processes left, unless
// another process is writing one. Where folders cannot be locked nothing is removed.
func lockStores(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	fd := int(f.Fd())
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		if err := atomicfile.Sweep(dir, "*"+storeExtension); err != nil {
			f.Close()
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	unix.Flock(fd, unix.LOCK_SH) // fails where nobody can lock it to remove something
	return f, nil
}

// storeKey hashes what the pixels depend on: the files' names and identities,
// the boxes and the options, and what decodes and scales. Whether bad images
// are skipped is not part of it: without any the pixels are the same.
func (l *listing) storeKey(ctx context.Context, opt Options) (string, error) {
	identities := make([]string, len(l.files))
	err := inParallel(ctx, len(l.files), nil, func(i int) error {
		var bad *FormatError
		var err error
		identities[i], err = l.identity(l.files[i])
		if opt.SkipBad && errors.As(err, &bad) {
			identities[i], err = bad.Reason, nil
		}
		return err
	})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %s %d %v\n", storeVersion, runtime.Version(), imageModule, opt.Size, opt.Limits)
	for i, file := range l.files {
		fmt.Fprintf(h, "%q %q", file, identities[i])
		if l.boxes != nil {
			fmt.Fprintf(h, " %v", l.boxes[i])
		}
		fmt.Fprintln(h)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// identity tells a file from any other and from what it was before: inode,
// size and the time of its last change, which, unlike that of modification,
// cannot be set.
func (s *source) identity(name string) (string, error) {
	f, size, err := s.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Sprint(stat.Ino, size, stat.Ctim.Sec, stat.Ctim.Nsec), nil
}

// writeStore decodes the images into f on all cores.
func (l *listing) writeStore(ctx context.Context, f *os.File, meta storeMetadata, opt Options) error {
	size := meta.ImageBytes
	into := func(int) []byte { return make([]byte, size) }
	faults, err := l.decodeAll(ctx, opt, into, func(i int, pixels []byte) error {
		_, err := f.WriteAt(pixels, int64(i)*int64(size))
		return err
	})
	if err != nil {
		return err
	}
	for i, bad := range faults {
		if bad != nil {
			meta.Bad = append(meta.Bad, storeBad{i, bad.Offset, bad.Reason})
		}
	}
	if meta.Images, err = closeGaps(f, faults, size); err != nil {
		return err
	}
	return appendMetadata(f, meta)
}

// closeGaps moves the images down over those with a fault, cuts the file after
// the last one and returns how many there are.
func closeGaps(f *os.File, faults []*FormatError, size int) (int, error) {
	pixels, kept := make([]byte, size), 0
	for i, bad := range faults {
		if bad != nil {
			continue
		}
		if i != kept {
			if _, err := f.ReadAt(pixels, int64(i)*int64(size)); err != nil {
				return 0, err
			}
			if _, err := f.WriteAt(pixels, int64(kept)*int64(size)); err != nil {
				return 0, err
			}
		}
		kept++
	}
	return kept, f.Truncate(int64(kept) * int64(size))
}

func appendMetadata(f *os.File, meta storeMetadata) error {
	end, err := meta.encode()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(end, int64(meta.Images)*int64(meta.ImageBytes))
	return err
}

// encode returns what follows the pixels.
func (m storeMetadata) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	end := binary.LittleEndian.AppendUint64(text, uint64(len(text)))
	return append(end, storeMagic...), nil
}

// openStore checks a store against what is wanted of it, maps its pixels into
// the set and drops the images that it leaves out, which is an error unless bad
// images are skipped.
func (l *listing) openStore(set *Set, path string, want storeMetadata) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	meta, err := readMetadata(f, want)
	var bad *FormatError
	if errors.As(err, &bad) {
		bad.Path = path
	}
	if err != nil {
		return err
	}
	if len(meta.Bad) > 0 && !l.skipBad {
		return l.fault(meta.Bad[0])
	}
	if set.mapped, err = newMapping(f, meta.Images*meta.ImageBytes, unix.PROT_READ); err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	set.Pixels = set.mapped.data
	set.drop(l.faults(meta))
	return nil
}

// faults returns the bad images at their indices.
func (l *listing) faults(m storeMetadata) []*FormatError {
	faults := make([]*FormatError, len(l.files))
	for _, bad := range m.Bad {
		faults[bad.Index] = l.fault(bad)
	}
	return faults
}

func (l *listing) fault(bad storeBad) *FormatError {
	return &FormatError{Path: filepath.Join(l.dir, l.files[bad.Index]), Offset: bad.Offset, Reason: bad.Reason}
}

// readMetadata reads and checks the end of a store.
func readMetadata(f *os.File, want storeMetadata) (storeMetadata, error) {
	info, err := f.Stat()
	if err != nil {
		return storeMetadata{}, err
	}
	if !info.Mode().IsRegular() {
		return storeMetadata{}, fault(-1, "not a regular file")
	}
	return parseMetadata(f, info.Size(), want)
}

// parseMetadata reads and checks the end of a store of size bytes.
func parseMetadata(r io.ReaderAt, size int64, want storeMetadata) (storeMetadata, error) {
	var meta storeMetadata
	footer := make([]byte, storeFooter)
	if size < int64(storeFooter) {
		return meta, fault(size, "store ends too early")
	}
	if _, err := r.ReadAt(footer, size-int64(storeFooter)); err != nil {
		return meta, err
	}
	if string(footer[8:]) != storeMagic {
		return meta, fault(size-int64(len(storeMagic)), "not a store of pixels, or a cut one")
	}
	length := binary.LittleEndian.Uint64(footer)
	if length > min(maxStoreMetadata, uint64(size)-uint64(storeFooter)) {
		return meta, fault(size-int64(storeFooter), "metadata of %d bytes cannot be", length)
	}
	start := size - int64(storeFooter) - int64(length)
	text := make([]byte, length)
	if _, err := r.ReadAt(text, start); err != nil {
		return meta, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&meta)
	if err == nil && decoder.InputOffset() != int64(length) {
		err = errors.New("more than one value")
	}
	if err != nil {
		return meta, &FormatError{Offset: start, Reason: "metadata: " + err.Error(), Err: err}
	}
	return meta, meta.check(want, start)
}

// check compares with what is wanted; pixelBytes precede the metadata.
func (m storeMetadata) check(want storeMetadata, pixelBytes int64) error {
	switch {
	case m.Version != want.Version || m.Key != want.Key || m.ImageBytes != want.ImageBytes:
		return fault(pixelBytes, "the store is of other images")
	case m.Images < 0 || len(m.Bad) > want.Images || m.Images != want.Images-len(m.Bad):
		return fault(pixelBytes, "the store has %d images and %d bad ones, want %d", m.Images, len(m.Bad), want.Images)
	case int64(m.Images)*int64(m.ImageBytes) != pixelBytes:
		return fault(pixelBytes, "the store has %d bytes of pixels, want %d images of %d", pixelBytes, m.Images, m.ImageBytes)
	}
	for i, bad := range m.Bad {
		if bad.Index < 0 || bad.Index >= want.Images || i > 0 && bad.Index <= m.Bad[i-1].Index {
			return fault(pixelBytes, "bad image %d is out of order", bad.Index)
		}
	}
	return nil
}

// block returns memory for n bytes of pixels of files that hold many images: with
// a store that of a file without a name there, which goes with the process.
func (o Options) block(n int) (*mapping, error) {
	if o.Store == "" || n == 0 {
		return &mapping{make([]byte, n), func() error { return nil }}, nil
	}
	m, err := mapNameless(o.Store, n)
	if err != nil {
		return nil, fmt.Errorf("store: %d bytes in %s: %w", n, o.Store, err)
	}
	return m, nil
}

func mapNameless(dir string, size int) (*mapping, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".nameless-*")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	// A disk that is found full when pages are written ends the process.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, err
	}
	return newMapping(f, size, unix.PROT_READ|unix.PROT_WRITE)
}

// mapping is a part of a file mapped into memory, or memory alone.
type mapping struct {
	data  []byte
	close func() error
}

func newMapping(f *os.File, size, access int) (*mapping, error) {
	if size == 0 {
		return &mapping{close: func() error { return nil }}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, access, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &mapping{data, sync.OnceValue(func() error { return unix.Munmap(data) })}, nil
}
