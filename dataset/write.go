package dataset

import (
	"bytes"
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

// Write makes the folder dir with the sets in their own format: IDX files
// without compression, CIFAR binary files with the class names, or PNG files
// in train/<class>/ and test/<class>/. test may be nil. Open reads the result
// back with equal pixels and labels (a folder at the size it was written).
//
// Image files keep their base names, with the extension .png, and lie in the
// folder of their label; where that makes two names equal the later image of
// the set gets "-2", "-3", ….
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
			written, err = inOrder(train), writeIDX(tmp, train, test)
		case formatCIFAR10, formatCIFAR100:
			written, err = inOrder(train), writeCIFAR(ctx, tmp, train, test)
		default:
			written, err = writeFolder(ctx, tmp, train, test, progress)
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
	classes, side, channels := len(s.Classes), 0, 3
	switch s.Format {
	case formatIDX:
		channels = 1
		if classes > 256 {
			return fmt.Errorf("idx holds at most 256 classes, not %d", classes)
		}
	case formatCIFAR10:
		classes, side = 10, cifarSide
	case formatCIFAR100:
		classes, side = 100, cifarSide
	case formatFolder:
		if !slices.IsSorted(s.Classes) {
			return fmt.Errorf("classes of a folder must be in the order of their names")
		}
	default:
		return fmt.Errorf("unknown format %q", s.Format)
	}
	for _, name := range s.Classes {
		if err := checkName(name); err != nil {
			return err
		}
		if s.Format == formatFolder && (strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`)) {
			return fmt.Errorf("class %q cannot be the name of a folder", name)
		}
	}
	if len(s.Classes) != classes {
		return fmt.Errorf("%s holds %d classes, not %d", s.Format, classes, len(s.Classes))
	}
	if s.Channels != channels || (side != 0 && (s.Height != side || s.Width != side)) {
		return fmt.Errorf("%s does not hold images of %d × %d × %d", s.Format, s.Height, s.Width, s.Channels)
	}
	return nil
}

// inOrder is the result for formats that keep the order.
func inOrder(s *Set) *Written {
	w := &Written{Keys: make([]string, s.Len()), Index: make([]int, s.Len())}
	for i := range s.Len() {
		w.Keys[i], w.Index[i] = "#"+strconv.Itoa(i), i
	}
	return w
}

func writeIDX(dir string, train, test *Set) error {
	for split, s := range map[Split]*Set{Train: train, Test: test} {
		if s == nil {
			continue
		}
		labels := make([]byte, s.Len())
		for i, label := range s.Labels {
			labels[i] = byte(label)
		}
		images := filepath.Join(dir, idxNames(split, "images", idxImageRank)[0])
		if err := writeIDXFile(images, s.Pixels, s.Len(), s.Height, s.Width); err != nil {
			return err
		}
		if err := writeIDXFile(filepath.Join(dir, idxNames(split, "labels", idxLabelRank)[0]), labels, s.Len()); err != nil {
			return err
		}
	}
	return nil
}

func writeIDXFile(name string, values []byte, sizes ...int) error {
	return atomicfile.Write(name, func(w io.Writer) error {
		header := binary.BigEndian.AppendUint32(nil, 0x800|uint32(len(sizes)))
		for _, size := range sizes {
			header = binary.BigEndian.AppendUint32(header, uint32(size))
		}
		_, err := io.Copy(w, io.MultiReader(bytes.NewReader(header), bytes.NewReader(values)))
		return err
	})
}

func writeCIFAR(ctx context.Context, dir string, train, test *Set) error {
	layouts := cifarLayouts()
	c := layouts[slices.IndexFunc(layouts, func(c *cifar) bool { return c.format == train.Format })]
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
			if _, err := w.Write(appendInterleaved(record, s.Image(i))); err != nil {
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
	keys := train.pngNames(Train)
	names, total := keys, train.Len()
	if test != nil {
		names, total = slices.Concat(keys, test.pngNames(Test)), total+test.Len()
	}
	if err := makeClassFolders(dir, names); err != nil {
		return nil, err
	}
	err := inParallel(ctx, total, progress, func(i int) error {
		s, j := train, i
		if i >= train.Len() {
			s, j = test, i-train.Len()
		}
		return writePNG(filepath.Join(dir, filepath.FromSlash(names[i])), s, j)
	})
	if err != nil {
		return nil, err
	}
	return &Written{Keys: keys, Index: readOrder(train.Labels, keys)}, nil
}

func makeClassFolders(dir string, names []string) error {
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
	if err := encodePNG(f, s.Image(i), s.Width, s.Height); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// pngNames returns a distinct file name for each image, in its label's folder.
// Images without a file are numbered in a shuffled order, so that a number does
// not give away which class an image came from.
func (s *Set) pngNames(split Split) []string {
	names := make([]string, s.Len())
	used := make(map[string]bool, s.Len())
	number := seed.Stream(uint64(s.Len()), "dataset/names").Perm(s.Len())
	for i, label := range s.Labels {
		base := fmt.Sprintf("%06d", number[i])
		if s.Files != nil {
			base = path.Base(s.Files[i])
			base = strings.TrimSuffix(base, path.Ext(base))
		}
		stem := path.Join(string(split), s.Classes[label], base)
		name := stem + ".png"
		for n := 2; used[name]; n++ {
			name = stem + "-" + strconv.Itoa(n) + ".png"
		}
		used[name] = true
		names[i] = name
	}
	return names
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
