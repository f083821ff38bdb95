package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/sync/semaphore"
)

// ErrNoBoxes says that images were to be cut to boxes where none are given.
var ErrNoBoxes = errors.New("the set has no boxes to cut images to")

// listing is one split of a set whose images are files of their own.
type listing struct {
	*source
	format  string
	skipBad bool
	classes []string
	files   []string
	labels  []int32
	boxes   []image.Rectangle // empty ones mean the whole image; nil for none at all
	skipped []FormatError
}

// row is one image in a list of images: a manifest or TSRD's annotations.
type row struct {
	list  string // the list's file
	at    int64  // where the line begins in it
	split Split
	file  string // relative to the set's folder
	label string // class name
	box   image.Rectangle
}

func (r row) fault(s *source, format string, args ...any) error {
	return s.locate(r.list, fault(r.at, format, args...))
}

// listRows makes a listing of the rows of one split, in their order. The
// training split defines the classes.
func listRows(s *source, format string, rows []row, split Split, opt Options) (*listing, error) {
	classes, err := classesOf(s, rows)
	if err != nil {
		return nil, err
	}
	labels := make(map[string]int32, len(classes))
	for i, class := range classes {
		labels[class] = int32(i)
	}
	l := &listing{source: s, format: format, skipBad: opt.SkipBad, classes: classes}
	seen := map[string]bool{}
	for _, r := range rows {
		if r.split != split {
			continue
		}
		label, ok := labels[r.label]
		switch {
		case !ok:
			return nil, r.fault(s, "class %q is not in the training split", r.label)
		case seen[r.file]:
			return nil, r.fault(s, "%s is listed twice in the %s split: an image has one line, and one box at most", strconv.Quote(r.file), split)
		}
		seen[r.file] = true
		l.add(r.file, label, r.box)
	}
	if len(l.files) == 0 {
		return nil, noSplit(s, split)
	}
	return l, nil
}

// add appends an image.
func (l *listing) add(file string, label int32, box image.Rectangle) {
	if l.boxes == nil && !box.Empty() {
		l.boxes = make([]image.Rectangle, len(l.files))
	}
	if l.boxes != nil {
		l.boxes = append(l.boxes, box)
	}
	l.files, l.labels = append(l.files, file), append(l.labels, label)
}

// classesOf returns the class names of the training rows, or of all rows if
// there are none, in the order of sortClasses.
func classesOf(s *source, rows []row) ([]string, error) {
	noTraining := !slices.ContainsFunc(rows, func(r row) bool { return r.split == Train })
	names := map[string]bool{}
	for _, r := range rows {
		if r.split == Train || noTraining {
			names[r.label] = true
		}
		if len(names) > s.limits.MaxClasses {
			return nil, r.fault(s, "over %d classes", s.limits.MaxClasses)
		}
	}
	classes := slices.Collect(maps.Keys(names))
	sortClasses(classes)
	return classes, nil
}

// sortClasses orders class names by their bytes or, where all of them are
// whole numbers, by number: "2" before "10".
func sortClasses(names []string) {
	numbers := make(map[string]int, len(names))
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			slices.Sort(names)
			return
		}
		numbers[name] = int(n)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(numbers[a], numbers[b]), cmp.Compare(a, b))
	})
}

// bad returns the fault of a file, or notes it where bad files are skipped.
func (l *listing) bad(name string, err error) error {
	err = l.locate(name, err)
	var format *FormatError
	if l.skipBad && errors.As(err, &format) {
		l.skipped = append(l.skipped, *format)
		return nil
	}
	return err
}

// read decodes the images into memory, or into the store and maps it.
func (l *listing) read(ctx context.Context, opt Options) (*Set, error) {
	if opt.Crop && l.boxes == nil {
		return nil, fmt.Errorf("%s: %w", l.dir, ErrNoBoxes)
	}
	if !opt.Crop {
		l.boxes = nil
	}
	set := &Set{
		Format: l.format, Classes: l.classes,
		Height: opt.Size, Width: opt.Size, Channels: 3,
		Labels: l.labels, Files: l.files, Skipped: l.skipped,
	}
	if opt.Store != "" {
		return set, l.stored(ctx, set, opt)
	}
	if err := opt.Limits.checkBlock(int64(set.Len()), int64(set.ImageBytes())); err != nil {
		return nil, err
	}
	set.Pixels = make([]byte, set.Len()*set.ImageBytes())
	faults, err := l.decodeAll(ctx, opt, set.Image, nil)
	if err != nil {
		return nil, err
	}
	kept := set.drop(faults)
	for to, from := range kept {
		copy(set.Image(to), set.Image(from))
	}
	set.Pixels = set.Pixels[:len(kept)*set.ImageBytes()]
	return set, nil
}

// decodeAll decodes every image on all cores. into gives the memory for image
// i; done, if not nil, is called when it is filled. The faults of skipped
// images come back at their indices.
func (l *listing) decodeAll(ctx context.Context, opt Options, into func(i int) []byte, done func(i int, pixels []byte) error) ([]*FormatError, error) {
	faults := make([]*FormatError, len(l.files))
	// Weighted by pixels, so that many cores meeting many large images do not
	// multiply the memory that one of them may take.
	memory := semaphore.NewWeighted(opt.Limits.MaxPixels)
	err := inParallel(ctx, len(l.files), opt.Progress, func(i int) error {
		pixels := into(i)
		err := l.decode(ctx, i, pixels, opt, memory)
		if opt.SkipBad && errors.As(err, &faults[i]) {
			err = nil
		}
		if err != nil || done == nil {
			return err
		}
		return done(i, pixels)
	})
	return faults, err
}

// decode reads image i into dst.
func (l *listing) decode(ctx context.Context, i int, dst []byte, opt Options, memory *semaphore.Weighted) error {
	name := l.files[i]
	f, _, err := l.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	c, config, err := header(f, opt.Limits)
	if err != nil {
		return l.locate(name, err)
	}
	box, err := l.box(i, config)
	if err != nil {
		return l.locate(name, err)
	}
	if err := checkScale(config, opt); err != nil {
		return l.locate(name, err)
	}
	weight := scaleCost(config.Width, config.Height, opt)
	if err := memory.Acquire(ctx, weight); err != nil {
		return err
	}
	defer memory.Release(weight)
	return l.locate(name, decodeRGB(dst, opt.Size, box, c, f))
}

// box returns the part of image i to take; the whole image is the empty box.
func (l *listing) box(i int, config image.Config) (image.Rectangle, error) {
	if l.boxes == nil {
		return image.Rectangle{}, nil
	}
	box := l.boxes[i]
	if !box.In(image.Rect(0, 0, config.Width, config.Height)) {
		return box, fault(-1, "box from (%d, %d) to (%d, %d) leaves the image of %d × %d pixels",
			box.Min.X, box.Min.Y, box.Max.X-1, box.Max.Y-1, config.Width, config.Height)
	}
	return box, nil
}

// checkScale refuses an image so high that the scaler, which holds a row of the
// result for each of its rows, would take more memory than a quarter of the largest image.
func checkScale(config image.Config, opt Options) error {
	if 4*int64(opt.Size)*int64(config.Height) > opt.Limits.MaxPixels {
		return fault(-1, "image of %d × %d pixels is too high to be scaled to %d × %d", config.Width, config.Height, opt.Size, opt.Size)
	}
	return nil
}

// scaleCost estimates an image's memory in pixels: its own, those of its flat
// copy, and those of the scaler, which holds 32 bytes for each of size × height.
func scaleCost(width, height int, opt Options) int64 {
	cost := 2*int64(width)*int64(height) + 8*int64(opt.Size)*int64(height)
	return min(cost, opt.Limits.MaxPixels)
}

// drop takes the images with a fault out of the set, but for their pixels, and
// notes them as skipped. It returns the former indices of those that stay.
func (s *Set) drop(faults []*FormatError) (kept []int) {
	for i, f := range faults {
		if f != nil {
			s.Skipped = append(s.Skipped, *f)
			continue
		}
		s.Labels[len(kept)], s.Files[len(kept)] = s.Labels[i], s.Files[i]
		kept = append(kept, i)
	}
	s.Labels, s.Files = s.Labels[:len(kept)], s.Files[:len(kept)]
	return kept
}

// checkedBox makes the rectangle of a box whose corner pixels (x1, y1) and
// (x2, y2) both belong to it, as in TSRD.
func checkedBox(x1, y1, x2, y2 int, limits Limits) (image.Rectangle, error) {
	for _, v := range []int{x1, y1, x2, y2} {
		if v < 0 || v >= limits.MaxSide {
			return image.Rectangle{}, fault(-1, "box corner %d is out of range 0 … %d", v, limits.MaxSide-1)
		}
	}
	if x1 > x2 || y1 > y2 {
		return image.Rectangle{}, fault(-1, "box from (%d, %d) to (%d, %d) holds no pixels", x1, y1, x2, y2)
	}
	return image.Rect(x1, y1, x2+1, y2+1), nil
}
