package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/semaphore"
)

// readFolder reads a split of a folder of class folders. Classes and files are
// in the order of their names' bytes; the training split defines the classes.
func readFolder(ctx context.Context, s *source, entries []fs.DirEntry, split Split, opt Options) (*Set, error) {
	if opt.Size == 0 {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrNeedsSize)
	}
	parts, err := splitFolders(s, entries)
	if err != nil {
		return nil, err
	}
	where, ok := parts[split]
	if !ok {
		return nil, noSplit(s, split)
	}
	l := &listing{source: s, skipBad: opt.SkipBad}
	if err := l.scan(where, parts); err != nil {
		return nil, err
	}
	set := &Set{
		Format: formatFolder, Classes: l.classes,
		Height: opt.Size, Width: opt.Size, Channels: 3,
		Labels: l.labels, Files: l.files, Skipped: l.skipped,
	}
	if err := set.decodeAll(ctx, s, opt); err != nil {
		return nil, err
	}
	return set, nil
}

// splitFolders finds the folder of each split. A folder named train or test is
// a split if it holds folders, or if there are no folders of other names;
// otherwise the top folder's folders are the classes.
func splitFolders(s *source, entries []fs.DirEntry) (map[Split]string, error) {
	parts := map[Split]string{}
	nested, others := false, false
	for _, e := range entries {
		if !s.isDir(e.Name(), e) {
			continue
		}
		split := Split(e.Name())
		if split != Train && split != Test {
			others = true
			continue
		}
		parts[split] = e.Name()
		below, err := s.list(e.Name(), s.limits.MaxSamples)
		if err != nil {
			return nil, err
		}
		nested = nested || slices.ContainsFunc(below, func(b fs.DirEntry) bool { return s.isDir(path.Join(e.Name(), b.Name()), b) })
	}
	switch {
	case len(parts) > 0 && (nested || !others):
		return parts, nil
	case others:
		return map[Split]string{Train: "."}, nil
	}
	return nil, s.locate(".", fault(-1, "found no IDX files, no CIFAR binary files and no class folders"))
}

// listing collects the images of a split.
type listing struct {
	*source
	skipBad bool
	classes []string
	files   []string
	labels  []int32
	skipped []FormatError
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

// scan lists the images in the folder of a split.
func (l *listing) scan(where string, parts map[Split]string) error {
	var err error
	classesIn := where
	if train, ok := parts[Train]; ok {
		classesIn = train
	}
	if l.classes, err = l.classFolders(classesIn, classesIn == where); err != nil {
		return err
	}
	present := l.classes
	if classesIn != where {
		if present, err = l.classFolders(where, true); err != nil {
			return err
		}
	}
	for _, class := range present {
		label, ok := slices.BinarySearch(l.classes, class)
		if !ok {
			return l.locate(path.Join(where, class), fault(-1, "class %q is not in the training split", class))
		}
		if err := l.class(path.Join(where, class), int32(label)); err != nil {
			return err
		}
	}
	return nil
}

// classFolders returns the names of the folders in where. Images that lie
// beside them are bad files, other files are ignored; strays says whether to
// look at them.
func (l *listing) classFolders(where string, strays bool) ([]string, error) {
	entries, err := l.list(where, l.limits.MaxSamples)
	if err != nil {
		return nil, err
	}
	var classes []string
	for _, e := range entries {
		name := path.Join(where, e.Name())
		switch {
		case l.isDir(name, e):
			if err := checkName(e.Name()); err != nil {
				return nil, l.locate(name, err)
			}
			classes = append(classes, e.Name())
		case strays:
			if err := l.stray(name, e); err != nil {
				return nil, err
			}
		}
	}
	if len(classes) > l.limits.MaxClasses {
		return nil, l.locate(where, fault(-1, "%d classes are over the limit of %d", len(classes), l.limits.MaxClasses))
	}
	return classes, nil
}

// stray refuses what may be meant as a class or an image but cannot be one.
func (l *listing) stray(name string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink != 0 {
		if _, err := l.root.Stat(name); err != nil {
			return l.bad(name, err)
		}
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".bmp", ".webp":
		return l.bad(name, fault(-1, "image outside of a class folder"))
	}
	return nil
}

// class lists the files of one class folder.
func (l *listing) class(folder string, label int32) error {
	entries, err := l.list(folder, l.limits.MaxSamples)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return l.locate(folder, fault(-1, "class folder is empty"))
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if reason := nameFault(e.Name()); reason != "" {
			err = l.bad(name, fault(-1, "%s", reason))
		} else if l.isDir(name, e) {
			err = l.bad(name, fault(-1, "folder inside of a class folder"))
		} else {
			l.files = append(l.files, name)
			l.labels = append(l.labels, label)
		}
		if err != nil {
			return err
		}
	}
	if len(l.files) > l.limits.MaxSamples {
		return l.locate(folder, fault(-1, "over %d images", l.limits.MaxSamples))
	}
	return nil
}

// decodeAll fills the pixels from the files.
func (s *Set) decodeAll(ctx context.Context, src *source, opt Options) error {
	imageBytes := s.ImageBytes()
	if err := opt.Limits.checkBlock(int64(s.Len()), int64(imageBytes)); err != nil {
		return err
	}
	s.Pixels = make([]byte, s.Len()*imageBytes)
	faults := make([]*FormatError, s.Len())
	// Weighted by pixels, so that many cores meeting many large images do not
	// multiply the memory that one of them may take.
	memory := semaphore.NewWeighted(opt.Limits.MaxPixels)
	err := inParallel(ctx, s.Len(), opt.Progress, func(i int) error {
		err := src.decode(ctx, s.Files[i], s.Image(i), opt, memory)
		if opt.SkipBad && errors.As(err, &faults[i]) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	s.drop(faults)
	return nil
}

// decode reads one image file into dst.
func (s *source) decode(ctx context.Context, name string, dst []byte, opt Options, memory *semaphore.Weighted) error {
	f, _, err := s.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	c, config, err := header(f, opt.Limits)
	if err != nil {
		return s.locate(name, err)
	}
	weight := scaleCost(config.Width, config.Height, opt)
	if err := memory.Acquire(ctx, weight); err != nil {
		return err
	}
	defer memory.Release(weight)
	return s.locate(name, decodeRGB(dst, opt.Size, c, f))
}

// scaleCost estimates an image's memory in pixels: its own, and those of the
// scaler, which holds 32 bytes for each of size × height.
func scaleCost(width, height int, opt Options) int64 {
	cost := int64(width)*int64(height) + 8*int64(opt.Size)*int64(height)
	return min(cost, opt.Limits.MaxPixels)
}

// drop takes the images with a fault out of the set and notes them as skipped.
func (s *Set) drop(faults []*FormatError) {
	kept := 0
	for i, f := range faults {
		if f != nil {
			s.Skipped = append(s.Skipped, *f)
			continue
		}
		copy(s.Image(kept), s.Image(i))
		s.Labels[kept], s.Files[kept] = s.Labels[i], s.Files[i]
		kept++
	}
	s.Pixels, s.Labels, s.Files = s.Pixels[:kept*s.ImageBytes()], s.Labels[:kept], s.Files[:kept]
}
