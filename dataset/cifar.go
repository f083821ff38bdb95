package dataset

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// CIFAR's binary files are records without a header: the label bytes, then
// 32 × 32 red, green and blue samples, one plane after another.
const (
	cifarSide    = 32
	cifarPlane   = cifarSide * cifarSide
	cifarPixels  = 3 * cifarPlane
	superclasses = 20 // coarse labels of CIFAR-100
	maxMetaBytes = 1 << 16
	maxNameBytes = 255
)

// cifar is one of the two binary layouts.
type cifar struct {
	format     string
	subfolder  string // where the files are when not at the top
	classes    int
	labelBytes int // the label is the last of them
	names      string
	testFile   string
}

func cifarLayouts() []*cifar {
	return []*cifar{
		{formatCIFAR10, "cifar-10-batches-bin", 10, 1, "batches.meta.txt", "test_batch.bin"},
		{formatCIFAR100, "cifar-100-binary", 100, 2, "fine_label_names.txt", "test.bin"},
	}
}

// cifarLayout returns the layout of a format that has one.
func cifarLayout(format string) *cifar {
	layouts := cifarLayouts()
	return layouts[slices.IndexFunc(layouts, func(c *cifar) bool { return c.format == format })]
}

func (c *cifar) recordBytes() int { return c.labelBytes + cifarPixels }

// trainFile names training file number n, which counts from 1.
func (c *cifar) trainFile(n int) string {
	if c.format == formatCIFAR100 {
		return "train.bin"
	}
	return "data_batch_" + strconv.Itoa(n) + ".bin"
}

// findCIFAR returns the layout of the source's files and the folder they are in.
func findCIFAR(s *source, entries []fs.DirEntry) (c *cifar, where string) {
	for _, c := range cifarLayouts() {
		if c.in(entries) {
			return c, "."
		}
	}
	for _, c := range cifarLayouts() {
		if !has(entries, c.subfolder) {
			continue
		}
		if sub, err := s.list(c.subfolder, s.limits.MaxSamples); err == nil && c.in(sub) {
			return c, c.subfolder
		}
	}
	return nil, ""
}

func (c *cifar) in(entries []fs.DirEntry) bool {
	return has(entries, c.testFile) || len(c.trainFiles(entries)) > 0
}

// trainFiles returns the training files among the entries in order.
func (c *cifar) trainFiles(entries []fs.DirEntry) []string {
	if c.format == formatCIFAR100 {
		if has(entries, c.trainFile(1)) {
			return []string{c.trainFile(1)}
		}
		return nil
	}
	var numbers []int
	for _, e := range entries {
		digits := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "data_batch_"), ".bin")
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && c.trainFile(n) == e.Name() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = c.trainFile(n)
	}
	return names
}

// read reads a split from the folder where.
func (c *cifar) read(ctx context.Context, s *source, where string, split Split, opt Options) (*Set, error) {
	entries, err := s.list(where, s.limits.MaxSamples)
	if err != nil {
		return nil, err
	}
	files, err := c.files(s, entries, where, split)
	if err != nil {
		return nil, err
	}
	set := &Set{Format: c.format, Height: cifarSide, Width: cifarSide, Channels: 3}
	if set.Classes, err = c.readNames(s, path.Join(where, c.names), has(entries, c.names)); err != nil {
		return nil, err
	}
	if c.labelBytes == 2 {
		set.superclass = make([]byte, c.classes)
	}
	if err := c.makeRoom(s, files, set, opt); err != nil {
		return nil, err
	}
	for _, name := range files {
		err := ctx.Err()
		if err == nil {
			err = c.readFile(s, name, set)
		}
		if err != nil {
			set.Close() // what it would say matters less
			return nil, err
		}
	}
	return set, nil
}

// files returns the files of a split in their order; none may be missing.
func (c *cifar) files(s *source, entries []fs.DirEntry, where string, split Split) ([]string, error) {
	names := c.trainFiles(entries)
	if split == Test {
		names = nil
		if has(entries, c.testFile) {
			names = []string{c.testFile}
		}
	}
	if len(names) == 0 {
		return nil, noSplit(s, split)
	}
	for i, name := range names {
		if want := c.trainFile(i + 1); split == Train && name != want {
			return nil, s.locate(path.Join(where, want), fault(-1, "file is missing, but %s is there", name))
		}
		names[i] = path.Join(where, name)
	}
	return names, nil
}

// makeRoom takes the memory for all images of the files.
func (c *cifar) makeRoom(s *source, files []string, set *Set, opt Options) error {
	images := int64(0)
	for _, name := range files {
		f, size, err := s.open(name)
		if err != nil {
			return err
		}
		f.Close()
		images += size / int64(c.recordBytes())
		if err := s.limits.checkBlock(images, cifarPixels); err != nil {
			return s.locate(name, err)
		}
	}
	pixels, err := opt.block(int(images) * cifarPixels)
	if err != nil {
		return err
	}
	set.mapped, set.Pixels = pixels, pixels.data[:0]
	return nil
}

// readFile appends the records of one file to the set.
func (c *cifar) readFile(s *source, name string, set *Set) error {
	f, size, err := s.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.locate(name, c.parse(f, size, set, s.limits))
}

// parse appends the records in r, which holds size bytes, to the set.
func (c *cifar) parse(r io.Reader, size int64, set *Set, limits Limits) error {
	recordBytes := int64(c.recordBytes())
	n := size / recordBytes
	if n == 0 || size%recordBytes != 0 {
		return fault(n*recordBytes, "file of %d bytes is not a whole number of records of %d bytes", size, recordBytes)
	}
	if err := limits.checkBlock(int64(set.Len())+n, cifarPixels); err != nil {
		return err
	}
	set.Pixels = slices.Grow(set.Pixels, int(n)*cifarPixels)
	set.Labels = slices.Grow(set.Labels, int(n))
	record := make([]byte, recordBytes)
	for i := range n {
		if read, err := io.ReadFull(r, record); err != nil {
			return ended(err, i*recordBytes+int64(read), "file ends too early")
		}
		label := int(record[c.labelBytes-1])
		if label >= c.classes {
			return fault(i*recordBytes+int64(c.labelBytes-1), "label %d is out of range 0 … %d", label, c.classes-1)
		}
		if c.labelBytes == 2 {
			if record[0] >= superclasses {
				return fault(i*recordBytes, "coarse label %d is out of range 0 … %d", record[0], superclasses-1)
			}
			set.superclass[label] = record[0]
		}
		set.Labels = append(set.Labels, int32(label))
		set.Pixels = appendPlanes(set.Pixels, record[c.labelBytes:])
	}
	return atEnd(r, size)
}

// appendPlanes appends the pixels of three planes, interleaved.
func appendPlanes(dst, planes []byte) []byte {
	red, green, blue := planes[:cifarPlane], planes[cifarPlane:2*cifarPlane], planes[2*cifarPlane:cifarPixels]
	start := len(dst)
	dst = dst[:start+cifarPixels]
	out := dst[start:]
	for i := range red {
		out[3*i], out[3*i+1], out[3*i+2] = red[i], green[i], blue[i]
	}
	return dst
}

// appendInterleaved is the reverse of appendPlanes.
func appendInterleaved(dst, pixels []byte) []byte {
	for channel := range 3 {
		for i := range cifarPlane {
			dst = append(dst, pixels[3*i+channel])
		}
	}
	return dst
}

// readNames reads the class names, or makes them up from the labels where
// there is no file of names.
func (c *cifar) readNames(s *source, name string, exists bool) ([]string, error) {
	if !exists {
		names := make([]string, c.classes)
		for i := range names {
			names[i] = strconv.Itoa(i)
		}
		return names, nil
	}
	f, _, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := parseNames(f, c.classes)
	return names, s.locate(name, err)
}

// parseNames reads one class name a line, exactly n; blank lines may follow.
func parseNames(r io.Reader, n int) ([]string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMetaBytes+1))
	if err != nil {
		return nil, content(err)
	}
	if len(text) > maxMetaBytes {
		return nil, fault(maxMetaBytes, "list of names is over %d bytes", maxMetaBytes)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	if len(lines) != n {
		return nil, fault(-1, "%d class names, want %d", len(lines), n)
	}
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
		if err := checkName(lines[i]); err != nil {
			return nil, err
		}
		if slices.Contains(lines[:i], lines[i]) {
			return nil, fault(-1, "class name %q appears twice", lines[i])
		}
	}
	return lines, nil
}

// checkName refuses the names of classes that reports and files cannot carry.
func checkName(name string) error {
	if reason := nameFault(name); reason != "" {
		return fault(-1, "class %q: %s", name, reason)
	}
	if len(name) > maxNameBytes {
		return fault(-1, "class name of %d bytes is over the limit of %d", len(name), maxNameBytes)
	}
	return nil
}
