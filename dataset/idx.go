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
func readIDX(s *source, split Split) (*Set, error) {
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
	set := &Set{Format: formatIDX, Channels: 1}
	imageSizes, pixels, err := readIDXFile(s, images, idxImageRank)
	if err != nil {
		return nil, err
	}
	set.Height, set.Width, set.Pixels = imageSizes[1], imageSizes[2], pixels
	labelSizes, labelBytes, err := readIDXFile(s, labels, idxLabelRank)
	if err != nil {
		return nil, err
	}
	if labelSizes[0] != imageSizes[0] {
		return nil, s.locate(labels, fault(4, "%d labels for %d images", labelSizes[0], imageSizes[0]))
	}
	set.Labels = make([]int32, len(labelBytes))
	for i, b := range labelBytes {
		set.Labels[i] = int32(b)
	}
	known, knownName := labelBytes, labels
	if _, trainLabels := idxFiles(entries, Train); split == Test && trainLabels != "" {
		knownName = trainLabels
		if _, known, err = readIDXFile(s, trainLabels, idxLabelRank); err != nil {
			return nil, err
		}
	}
	if set.Classes, err = idxClasses(known); err != nil {
		return nil, s.locate(knownName, err)
	}
	for i, b := range labelBytes {
		if int(b) >= len(set.Classes) {
			return nil, s.locate(labels, fault(idxLabelHeader+int64(i),
				"label %d is out of range: training labels end at %d", b, len(set.Classes)-1))
		}
	}
	return set, nil
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

// readIDXFile reads a file of the given rank, unpacking .gz.
func readIDXFile(s *source, name string, rank int) (sizes []int, values []byte, err error) {
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
	sizes, values, err = parseIDX(r, rank, size, s.limits)
	return sizes, values, s.locate(name, err)
}

// parseIDX reads one IDX file of unsigned bytes. most is the most bytes r can
// hold: a header that claims more is refused before memory is taken.
func parseIDX(r io.Reader, rank int, most int64, limits Limits) ([]int, []byte, error) {
	header := make([]byte, 4+4*rank)
	if n, err := io.ReadFull(r, header); err != nil {
		return nil, nil, ended(err, int64(n), "header is incomplete")
	}
	if want := 0x800 | uint32(rank); binary.BigEndian.Uint32(header) != want {
		return nil, nil, fault(0, "magic number %#08x, want %#08x", binary.BigEndian.Uint32(header), want)
	}
	sizes := make([]int, rank)
	for d := range sizes {
		sizes[d] = int(binary.BigEndian.Uint32(header[4+4*d:]))
	}
	sampleBytes := 1
	if rank == idxImageRank {
		if err := limits.checkImage(sizes[2], sizes[1]); err != nil {
			return nil, nil, err
		}
		sampleBytes = sizes[1] * sizes[2]
	}
	if err := limits.checkBlock(int64(sizes[0]), int64(sampleBytes)); err != nil {
		return nil, nil, err
	}
	total := int64(sizes[0]) * int64(sampleBytes)
	if total > most-int64(len(header)) {
		return nil, nil, fault(4, "file ends too early: header claims %d bytes of values, the file can hold %d", total, most-int64(len(header)))
	}
	values := make([]byte, total)
	if n, err := io.ReadFull(r, values); err != nil {
		return nil, nil, ended(err, int64(len(header)+n), "file ends too early")
	}
	return sizes, values, atEnd(r, int64(len(header))+total)
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
