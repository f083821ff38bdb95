// Package inspect looks at an image set before anything is trained on it:
// counts, sizes, channel statistics, exact and near copies, images that are in
// both splits. It needs no engine, and the same set gives the same report.
package inspect

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"cordon/dataset"
)

// Version is the version of the JSON of a Report.
const Version = 1

// Report is what was found. Its JSON is described in docs/formats.md.
type Report struct {
	Version   int       `json:"version"`
	Data      Data      `json:"data"`
	Classes   []Class   `json:"classes"`
	Imbalance Imbalance `json:"imbalance"`
	Train     Split     `json:"train"`
	Test      *Split    `json:"test"` // nil without a test split
	Across    Across    `json:"across"`
	// Copies are the groups of equal images, Near those of images that are
	// almost equal. Groups with different labels come first, then larger ones.
	Copies     []Group   `json:"copies"`
	Near       Near      `json:"near"`
	Unreadable []BadFile `json:"unreadable"`
}

// Data says what was inspected and at which size.
type Data struct {
	Name     string `json:"name"`
	Format   string `json:"format"`
	Height   int    `json:"height"`
	Width    int    `json:"width"`
	Channels int    `json:"channels"`
}

// Class counts the images of a class.
type Class struct {
	Name  string `json:"name"`
	Train int    `json:"train"`
	Test  int    `json:"test"`
}

// Imbalance compares the classes of the training split.
type Imbalance struct {
	Largest  string  `json:"largest"`
	Smallest string  `json:"smallest"`
	Ratio    float64 `json:"ratio"` // images of the largest for one of the smallest
	// MissingInTest are the classes that the test split has no images of.
	MissingInTest []string `json:"missing_in_test"`
}

// Split describes the training or the test images.
type Split struct {
	Images   int `json:"images"`
	Distinct int `json:"distinct"` // after exact copies are counted once
	Copies   int `json:"copies"`   // Images - Distinct
	// Width and Height are those of the image files, in pixels.
	Width  Range `json:"width"`
	Height Range `json:"height"`
	// Mean and Std are those of each channel at the size read, 0 … 1.
	Mean []float64 `json:"mean"`
	Std  []float64 `json:"std"`
}

// Range sums up whole numbers.
type Range struct {
	Min    int `json:"min"`
	Median int `json:"median"` // the upper one of two
	Max    int `json:"max"`
}

// Across counts the images that are in both splits.
type Across struct {
	Distinct int `json:"distinct"` // different images
	Train    int `json:"train"`    // training images that are also test images
	Test     int `json:"test"`     // test images that are also training images
}

// Group holds images that are equal or almost equal: two or more.
type Group struct {
	DifferentLabels bool    `json:"different_labels"`
	BothSplits      bool    `json:"both_splits"`
	Images          []Image `json:"images"`
}

// Image names one image.
type Image struct {
	Split dataset.Split `json:"split"`
	Key   string        `json:"key"` // see dataset.Set.Key
	Class string        `json:"class"`
}

// BadFile is a file that could not be read.
type BadFile struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// Part is one split to inspect.
type Part struct {
	Set *dataset.Set
	// FileImages holds the images as in their files (dataset.FileImages), nil for
	// a set that holds them at their own size.
	FileImages []dataset.FileImage
}

// Inspect reports on a set; test may be nil. Two images are copies if their
// decoded pixels are equal, at the size of their files and as read.
func Inspect(ctx context.Context, train, test *Part) (*Report, error) {
	s := train.Set
	r := &Report{
		Version: Version,
		Data:    Data{s.Name, s.Format, s.Height, s.Width, s.Channels},
		Train:   train.describe(),
	}
	all := train.pictures(dataset.Train)
	if test != nil {
		described := test.describe()
		r.Test = &described
		all = append(all, test.pictures(dataset.Test)...)
	}
	r.countClasses(train, test)
	r.Unreadable = unreadable(train, test)
	if err := r.findCopies(ctx, all); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *Part) describe() Split {
	s := p.Set
	split := Split{
		Images: s.Len(),
		Width:  Range{s.Width, s.Width, s.Width},
		Height: Range{s.Height, s.Height, s.Height},
	}
	split.Mean, split.Std = s.Stats()
	if len(p.FileImages) > 0 {
		widths, heights := make([]int, s.Len()), make([]int, s.Len())
		for i, o := range p.FileImages {
			widths[i], heights[i] = o.Width, o.Height
		}
		split.Width, split.Height = rangeOf(widths), rangeOf(heights)
	}
	return split
}

func rangeOf(values []int) Range {
	slices.Sort(values)
	return Range{values[0], values[len(values)/2], values[len(values)-1]}
}

func (r *Report) countClasses(train, test *Part) {
	counts := train.Set.Counts()
	for label, name := range train.Set.Classes {
		r.Classes = append(r.Classes, Class{Name: name, Train: counts[label]})
	}
	largest, smallest := slices.Max(counts), slices.Min(counts)
	r.Imbalance = Imbalance{
		Largest:       train.Set.Classes[slices.Index(counts, largest)],
		Smallest:      train.Set.Classes[slices.Index(counts, smallest)],
		Ratio:         float64(largest) / float64(max(smallest, 1)),
		MissingInTest: []string{},
	}
	if test == nil {
		return
	}
	for label, n := range test.Set.Counts() {
		r.Classes[label].Test = n
		if n == 0 {
			r.Imbalance.MissingInTest = append(r.Imbalance.MissingInTest, r.Classes[label].Name)
		}
	}
}

func unreadable(train, test *Part) []BadFile {
	skipped := train.Set.Skipped
	if test != nil {
		skipped = slices.Concat(skipped, test.Set.Skipped)
	}
	bad := []BadFile{}
	for _, f := range skipped {
		bad = append(bad, BadFile{File: f.Path, Reason: f.Reason})
	}
	return bad
}

// chunk is how many images a goroutine takes at a time.
const chunk = 256

// each calls do for 0 … n-1 on all cores.
func each(ctx context.Context, n int, do func(i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for start := 0; start < n; start += chunk {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i := start; i < min(start+chunk, n); i++ {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
