package dataset

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cordon/internal/atomicfile"
	"cordon/internal/seed"
)

// Written tells where the training images of a written set are.
type Written struct {
	// Keys holds what Key returns for each image once the set is read again.
	Keys []string
	// Index holds each image's position in the training split read again. IDX
	// and CIFAR keep the order; a folder is read in the order of its names.
	Index []int
}

// cifarFileImages is the number of images in one CIFAR-10 training file.
const cifarFileImages = 10_000

// Write makes the folder dir with the sets in the format that train.Format
// names: IDX files without compression, CIFAR binary files with the class
// names, PNG files in train/<class>/ and test/<class>/, or PNG files in train/
// and test/ with a manifest ("csv", "jsonl"; TSRD as "csv"). test may be nil.
// Open reads the result back with equal pixels and labels (image files at the
// size they were written).
//
// What a format cannot hold is refused: IDX has grey images and up to 256
// classes, whose names it does not keep; CIFAR 32 × 32 images and 10 or 100
// classes. Where nothing is lost the channels are made to fit: grey images
// become three equal channels, and such channels one. Classes must be in the order
// in which the format is read; see InFormat.
//
// Image files keep their base names, with the extension .png; where that makes
// two names in one folder equal the later image of the set gets "-2", "-3", ….
//
// dir must not exist; it appears complete or not at all. progress may be nil;
// it is called after each image file, from one goroutine at a time. Classes
// without training images cannot be written, as Open would not read them.
func Write(ctx context.Context, dir string, train, test *Set, progress func(done, total int)) (*Written, error) {
	if err := writable(train, test); err != nil {
		return nil, fmt.Errorf("write image set %s: %w", dir, err)
	}
	var written *Written
	err := atomicfile.Dir(dir, func(tmp string) (err error) {
		switch train.Format {
		case formatIDX:
			written, err = inOrder(train), writeIDX(ctx, tmp, train, test)
		case formatCIFAR10, formatCIFAR100:
			written, err = inOrder(train), writeCIFAR(ctx, tmp, train, test)
		case formatFolder:
			written, err = writeFolder(ctx, tmp, train, test, progress)
		default:
			written, err = writeManifest(ctx, tmp, train, test, progress)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return written, nil
}

// writable checks that the sets go together and fit their format.
func writable(train, test *Set) error {
	if err := train.check(Train); err != nil {
		return err
	}
	for _, s := range []*Set{train, test} {
		if s == nil {
			continue
		}
		if err := s.valid(); err != nil {
			return err
		}
		if s.Format != train.Format || !slices.Equal(s.Classes, train.Classes) {
			return fmt.Errorf("training and test split differ in format or classes")
		}
	}
	if test != nil {
		return test.check(Test)
	}
	return nil
}

// valid checks the set against what its format can hold.
func (s *Set) valid() error {
	if err := s.CheckPixels(); err != nil {
		return err
	}
	for _, name := range s.Classes {
		if err := checkName(name); err != nil {
			return err
		}
	}
	switch s.Format {
	case formatIDX:
		return s.validIDX()
	case formatCIFAR10, formatCIFAR100:
		return s.validCIFAR(cifarLayout(s.Format))
	case formatFolder:
		return s.validFolder()
	case formatCSV, formatJSONL, formatTSRD:
		sorted := slices.Clone(s.Classes)
		if sortClasses(sorted); !slices.Equal(sorted, s.Classes) {
			return fmt.Errorf("classes of a manifest must be in the order of their names, whole numbers by value")
		}
		return nil
	}
	return fmt.Errorf("unknown format %q", s.Format)
}

func (s *Set) validIDX() error {
	if len(s.Classes) > 256 {
		return fmt.Errorf("idx holds at most 256 classes, not %d", len(s.Classes))
	}
	for i := range s.Len() {
		if image := s.Image(i); s.Channels == 3 && !isGrey(image) {
			return fmt.Errorf("idx holds grey images, but %s has colours", s.Key(i))
		}
	}
	return nil
}

func (s *Set) validCIFAR(c *cifar) error {
	if len(s.Classes) != c.classes {
		return fmt.Errorf("%s holds %d classes, not %d", c.format, c.classes, len(s.Classes))
	}
	if s.Height != cifarSide || s.Width != cifarSide {
		return fmt.Errorf("%s holds images of %d × %d pixels, not %d × %d", c.format, cifarSide, cifarSide, s.Height, s.Width)
	}
	return nil
}

func (s *Set) validFolder() error {
	if !slices.IsSorted(s.Classes) {
		return fmt.Errorf("classes of a folder must be in the order of their names' bytes")
	}
	for _, name := range s.Classes {
		if strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
			return fmt.Errorf("class %q cannot be the name of a folder", name)
		}
	}
	return nil
}

// isGrey tells whether the three channels of every pixel are equal.
func isGrey(rgb []byte) bool {
	for p := 0; p < len(rgb); p += 3 {
		if rgb[p] != rgb[p+1] || rgb[p] != rgb[p+2] {
			return false
		}
	}
	return true
}

// withChannels returns image i with channels channels: those it has, the one it has
// repeated, or the first of three equal ones.
func (s *Set) withChannels(i, channels int) []byte {
	from := s.Image(i)
	if s.Channels == channels {
		return from
	}
	out := make([]byte, s.Height*s.Width*channels)
	for k := range out {
		out[k] = from[k/channels*s.Channels]
	}
	return out
}

// inOrder is the result for formats that keep the order.
func inOrder(s *Set) *Written {
	w := &Written{Keys: make([]string, s.Len()), Index: make([]int, s.Len())}
	for i := range s.Len() {
		w.Keys[i], w.Index[i] = "#"+strconv.Itoa(i), i
	}
	return w
}

func writeIDX(ctx context.Context, dir string, train, test *Set) error {
	for split, s := range map[Split]*Set{Train: train, Test: test} {
		if s == nil {
			continue
		}
		images := filepath.Join(dir, idxNames(split, "images", idxImageRank)[0])
		grey := func(i int) []byte { return s.withChannels(i, 1) }
		if err := writeIDXFile(ctx, images, grey, s.Len(), s.Height, s.Width); err != nil {
			return err
		}
		label := func(i int) []byte { return []byte{byte(s.Labels[i])} }
		if err := writeIDXFile(ctx, filepath.Join(dir, idxNames(split, "labels", idxLabelRank)[0]), label, s.Len()); err != nil {
			return err
		}
	}
	return nil
}

// writeIDXFile writes a file of the given sizes; value returns the bytes of
// sample i.
func writeIDXFile(ctx context.Context, name string, value func(i int) []byte, sizes ...int) error {
	return atomicfile.Write(name, func(w io.Writer) error {
		header := binary.BigEndian.AppendUint32(nil, 0x800|uint32(len(sizes)))
		for _, size := range sizes {
			header = binary.BigEndian.AppendUint32(header, uint32(size))
		}
		if _, err := w.Write(header); err != nil {
			return err
		}
		for i := range sizes[0] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := w.Write(value(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeCIFAR(ctx context.Context, dir string, train, test *Set) error {
	c := cifarLayout(train.Format)
	perFile := cifarFileImages
	if c.format == formatCIFAR100 {
		perFile = train.Len()
	}
	for start, n := 0, 1; start < train.Len(); start, n = start+perFile, n+1 {
		end := min(start+perFile, train.Len())
		if err := c.writeFile(ctx, filepath.Join(dir, c.trainFile(n)), train, start, end); err != nil {
			return err
		}
	}
	if test != nil {
		if err := c.writeFile(ctx, filepath.Join(dir, c.testFile), test, 0, test.Len()); err != nil {
			return err
		}
	}
	return atomicfile.Write(filepath.Join(dir, c.names), func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(train.Classes, "\n")+"\n")
		return err
	})
}

// writeFile writes the images start … end-1.
func (c *cifar) writeFile(ctx context.Context, name string, s *Set, start, end int) error {
	return atomicfile.Write(name, func(w io.Writer) error {
		record := make([]byte, 0, c.recordBytes())
		for i := start; i < end; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			record = record[:0]
			if c.labelBytes == 2 {
				record = append(record, s.superclassOf(s.Labels[i]))
			}
			record = append(record, byte(s.Labels[i]))
			if _, err := w.Write(appendInterleaved(record, s.withChannels(i, 3))); err != nil {
				return err
			}
		}
		return nil
	})
}

// superclassOf returns the coarse label that goes with a class of CIFAR-100,
// 0 where it is not known.
func (s *Set) superclassOf(label int32) byte {
	if s.superclass == nil {
		return 0
	}
	return s.superclass[label]
}

func writeFolder(ctx context.Context, dir string, train, test *Set, progress func(done, total int)) (*Written, error) {
	byClass := func(split Split, class string) string { return path.Join(string(split), class) }
	names, err := writeImages(ctx, dir, train, test, byClass, progress)
	if err != nil {
		return nil, err
	}
	keys := names[:train.Len()]
	return &Written{Keys: keys, Index: readOrder(train.Labels, keys)}, nil
}

// writeImages writes the images as PNG files in the folders that folder gives
// for a split and a class. It returns the names, relative to dir, of the
// training images and then of the test images.
func writeImages(ctx context.Context, dir string, train, test *Set, folder func(Split, string) string, progress func(done, total int)) ([]string, error) {
	names := train.pngNames(Train, folder)
	if test != nil {
		names = append(names, test.pngNames(Test, folder)...)
	}
	if err := makeFolders(dir, names); err != nil {
		return nil, err
	}
	return names, inParallel(ctx, len(names), progress, func(i int) error {
		s, j := train, i
		if i >= train.Len() {
			s, j = test, i-train.Len()
		}
		return writePNG(filepath.Join(dir, filepath.FromSlash(names[i])), s, j)
	})
}

func makeFolders(dir string, names []string) error {
	made := map[string]bool{}
	for _, name := range names {
		folder := path.Dir(name)
		if made[folder] {
			continue
		}
		made[folder] = true
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(folder)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// writePNG writes image i. The folder around it is still a temporary one, so
// the file needs no temporary of its own.
func writePNG(name string, s *Set, i int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.encodePNG(f, i); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// pngNames returns a distinct file name for each image in its folder. Images
// without a file are numbered in a shuffled order, so that a number does not
// give away which class an image came from.
func (s *Set) pngNames(split Split, folder func(Split, string) string) []string {
	names := make([]string, s.Len())
	used := make(map[string]bool, s.Len())
	tried := map[string]int{} // the last number given to a name that was used before
	number := seed.Stream(uint64(s.Len()), "dataset/names").Perm(s.Len())
	for i, label := range s.Labels {
		base := fmt.Sprintf("%06d", number[i])
		if s.Files != nil {
			base = cmp.Or(visibleStem(s.Files[i]), base)
		}
		stem := path.Join(folder(split, s.Classes[label]), base)
		name := stem + ".png"
		for n := max(2, tried[stem]+1); used[name]; n++ {
			name = stem + "-" + strconv.Itoa(n) + ".png"
			tried[stem] = n
		}
		used[name] = true
		names[i] = name
	}
	return names
}

// visibleStem returns the base name of a file without its extension and without
// the dots that would hide it from readers of folders; it may be empty.
func visibleStem(file string) string {
	base := path.Base(file)
	return strings.TrimLeft(strings.TrimSuffix(base, path.Ext(base)), ".")
}

// readOrder returns each image's position when a folder is read.
func readOrder(labels []int32, keys []string) []int {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(labels[a], labels[b]), strings.Compare(keys[a], keys[b]))
	})
	index := make([]int, len(keys))
	for position, i := range order {
		index[i] = position
	}
	return index
}
