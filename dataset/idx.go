package dataset

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// The IDX format: four bytes (0, 0, 8 for unsigned bytes, rank), one
// big-endian 32-bit size per dimension, then the values.
const (
	idxImageRank = 3 // images × height × width
	idxLabelRank = 1
	// idxLabelHeader is where the values of a label file start.
	idxLabelHeader = 8
	// maxDeflate is how many times larger than its gzip file content can be.
	maxDeflate = 1032
)

// idxStem is what the names of a split's files start with.
func idxStem(split Split) string {
	if split == Train {
		return "train"
	}
	return "t10k"
}

// idxNames lists the spellings of a file's name, the preferred one first.
func idxNames(split Split, kind string, rank int) []string {
	stem := idxStem(split) + "-" + kind
	suffix := "idx" + strconv.Itoa(rank) + "-ubyte"
	dash, dot := stem+"-"+suffix, stem+"."+suffix
	return []string{dash, dash + ".gz", dot, dot + ".gz"}
}

// findIDX returns the name of a split's file of a kind, or "".
func findIDX(entries []fs.DirEntry, split Split, kind string, rank int) string {
	for _, name := range idxNames(split, kind, rank) {
		if has(entries, name) {
			return name
		}
	}
	return ""
}

func idxFiles(entries []fs.DirEntry, split Split) (images, labels string) {
	return findIDX(entries, split, "images", idxImageRank), findIDX(entries, split, "labels", idxLabelRank)
}

func hasIDX(entries []fs.DirEntry) bool {
	for _, split := range []Split{Train, Test} {
		if images, labels := idxFiles(entries, split); images != "" || labels != "" {
			return true
		}
	}
	return false
}

// readIDX reads a split of an MNIST-like set: grey images of one size. It has
// as many classes as its highest training label says, named "0", "1", ….
func readIDX(s *source, split Split, opt Options) (*Set, error) {
	entries, err := s.list(".", s.limits.MaxSamples)
	if err != nil {
		return nil, err
	}
	images, labels := idxFiles(entries, split)
	switch {
	case images == "" && labels == "":
		return nil, noSplit(s, split)
	case images == "":
		return nil, s.locate(idxNames(split, "images", idxImageRank)[0], fault(-1, "file is missing"))
	case labels == "":
		return nil, s.locate(idxNames(split, "labels", idxLabelRank)[0], fault(-1, "file is missing"))
	}
	sizes, pixels, err := readIDXFile(s, images, idxImageRank, opt.block)
	if err != nil {
		return nil, err
	}
	set := &Set{Format: formatIDX, Height: sizes[1], Width: sizes[2], Channels: 1, Pixels: pixels.data, mapped: pixels}
	known := labels
	if _, trainLabels := idxFiles(entries, Train); trainLabels != "" {
		known = trainLabels
	}
	if err := readIDXLabels(s, set, labels, known, sizes[0]); err != nil {
		set.Close() // what it would say matters less
		return nil, err
	}
	return set, nil
}

// readIDXLabels reads the labels of the set's images from one file and the
// classes from known, the training split's.
func readIDXLabels(s *source, set *Set, labels, known string, images int) error {
	values, err := readIDXLabelFile(s, labels)
	if err != nil {
		return err
	}
	if len(values) != images {
		return s.locate(labels, fault(4, "%d labels for %d images", len(values), images))
	}
	training := values
	if known != labels {
		if training, err = readIDXLabelFile(s, known); err != nil {
			return err
		}
	}
	if set.Classes, err = idxClasses(training); err != nil {
		return s.locate(known, err)
	}
	set.Labels = make([]int32, len(values))
	for i, b := range values {
		if int(b) >= len(set.Classes) {
			return s.locate(labels, fault(idxLabelHeader+int64(i),
				"label %d is out of range: training labels end at %d", b, len(set.Classes)-1))
		}
		set.Labels[i] = int32(b)
	}
	return nil
}

func readIDXLabelFile(s *source, name string) ([]byte, error) {
	_, values, err := readIDXFile(s, name, idxLabelRank, Options{}.block)
	if err != nil {
		return nil, err
	}
	return values.data, nil
}

// idxClasses names the classes 0 … highest label. Each must occur: a label far
// above the others is a fault of the file, not a class.
func idxClasses(labels []byte) ([]string, error) {
	if len(labels) == 0 {
		return nil, fault(-1, "no labels")
	}
	highest := slices.Max(labels)
	classes := make([]string, int(highest)+1)
	for label := range classes {
		if !slices.Contains(labels, byte(label)) {
			at := slices.Index(labels, highest)
			return nil, fault(idxLabelHeader+int64(at), "label %d is out of range: no image has label %d", highest, label)
		}
		classes[label] = strconv.Itoa(label)
	}
	return classes, nil
}

// readIDXFile reads a file of the given rank, unpacking .gz, into what block
// gives for so many bytes.
func readIDXFile(s *source, name string, rank int, block func(n int) (*mapping, error)) (sizes []int, values *mapping, err error) {
	f, size, err := s.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		zip, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<16))
		if err != nil {
			return nil, nil, s.locate(name, content(err))
		}
		r, size = zip, min(size*maxDeflate, s.limits.MaxFileBytes)
	}
	sizes, total, err := parseIDXHeader(r, rank, size, s.limits)
	if err != nil {
		return nil, nil, s.locate(name, err)
	}
	if values, err = block(total); err != nil {
		return nil, nil, err
	}
	if err := readIDXValues(r, rank, values.data); err != nil {
		values.close() // what it would say matters less
		return nil, nil, s.locate(name, err)
	}
	return sizes, values, nil
}

func idxHeaderBytes(rank int) int { return 4 + 4*rank }

// parseIDXHeader reads the header of an IDX file of unsigned bytes: the sizes, and
// how many bytes of values follow. most is the most bytes r can hold: a header
// that claims more is refused before memory is taken.
func parseIDXHeader(r io.Reader, rank int, most int64, limits Limits) (sizes []int, values int, err error) {
	header := make([]byte, idxHeaderBytes(rank))
	if n, err := io.ReadFull(r, header); err != nil {
		return nil, 0, ended(err, int64(n), "header is incomplete")
	}
	if want := 0x800 | uint32(rank); binary.BigEndian.Uint32(header) != want {
		return nil, 0, fault(0, "magic number %#08x, want %#08x", binary.BigEndian.Uint32(header), want)
	}
	sizes = make([]int, rank)
	for d := range sizes {
		sizes[d] = int(binary.BigEndian.Uint32(header[4+4*d:]))
	}
	sampleBytes := 1
	if rank == idxImageRank {
		if err := limits.checkImage(sizes[2], sizes[1]); err != nil {
			return nil, 0, err
		}
		sampleBytes = sizes[1] * sizes[2]
	}
	if err := limits.checkBlock(int64(sizes[0]), int64(sampleBytes)); err != nil {
		return nil, 0, err
	}
	total := int64(sizes[0]) * int64(sampleBytes)
	if total > most-int64(len(header)) {
		return nil, 0, fault(4, "file ends too early: header claims %d bytes of values, the file can hold %d", total, most-int64(len(header)))
	}
	return sizes, int(total), nil
}

// readIDXValues fills values, which must be all that r holds after the header.
func readIDXValues(r io.Reader, rank int, values []byte) error {
	start := int64(idxHeaderBytes(rank))
	if n, err := io.ReadFull(r, values); err != nil {
		return ended(err, start+int64(n), "file ends too early")
	}
	return atEnd(r, start+int64(len(values)))
}

// ended describes a read that came up short at an offset.
func ended(err error, offset int64, reason string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault(offset, "%s", reason)
	}
	return content(err)
}

// atEnd refuses bytes that follow the content.
func atEnd(r io.Reader, offset int64) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	if n > 0 {
		return fault(offset, "trailing bytes after the last value")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return content(err)
}
