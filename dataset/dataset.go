// Package dataset reads and writes labelled image sets: MNIST's IDX files,
// CIFAR's binary files, folders of class folders, manifests in CSV and JSONL,
// and TSRD.
//
// Images are held as they are in the files: 8-bit samples in
// height × width × channel order, one block for the whole set, in memory or in
// a file that is mapped into it (Options.Store). A set that is made of another
// one (Subset, Enlarge, WithImages) holds no pixels: it makes an image when it is
// asked for it, so that it is no larger than the other, however many images it
// has. Nothing here depends on the engine. Inputs are hostile: every reader has
// limits, refuses with an error that names the file and the reason, and never
// follows a link out of the folder it was given.
package dataset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"cordon/internal/printable"
)

// Set is one split (training or test) of a labelled image set. All images have
// the same height, width and channel count.
type Set struct {
	// Name says what the set is, for people: the base name of its folder.
	Name string
	// Format is the layout on disk: "idx", "cifar10", "cifar100", "folder",
	// "csv", "jsonl" or "tsrd".
	Format string
	// Classes holds the class names; a label indexes it.
	Classes []string
	// Height, Width (pixels) and Channels (1 grey or 3 RGB) of every image.
	Height, Width, Channels int
	// Pixels holds all images one after another, each Height·Width·Channels
	// bytes in height × width × channel order, 0 black to 255 white. They must
	// not be changed in a set that was read with a Store. Nil in a set that is
	// made of another one: read images with Image.
	Pixels []byte
	// Labels holds one label per image, 0 ≤ label < len(Classes).
	Labels []int32
	// Files names the file of each image relative to the set's folder, slash
	// separated. Nil for formats that keep many images in one file.
	Files []string
	// Skipped lists the files that were left out because they are bad, where
	// the caller asked for that instead of an error.
	Skipped []FormatError

	// superclass holds the coarse label of each class of a CIFAR-100 set, so
	// that it can be written again. Nil otherwise.
	superclass []byte
	// origin holds each image's index in the set it was taken from by Subset;
	// nil in a set as read.
	origin []int
	// mapped is what Pixels lie in; nil if that needs no Close.
	mapped *mapping
	// image makes an image of a set without Pixels.
	image func(i int) []byte
}

// Close gives back what a set that was read with a Store has mapped. Its
// pixels, and those of sets made of it, must not be used afterwards. Other sets
// need no Close. It may be called more than once.
func (s *Set) Close() error {
	if s == nil || s.mapped == nil {
		return nil
	}
	return s.mapped.close()
}

// Len returns the number of images.
func (s *Set) Len() int { return len(s.Labels) }

// ImageBytes returns the size of one image: Height·Width·Channels.
func (s *Set) ImageBytes() int { return s.Height * s.Width * s.Channels }

// Image returns the pixels of image i, which must not be changed: they may be
// those of the set, or of another that it is made of.
func (s *Set) Image(i int) []byte {
	if s.image != nil {
		return s.image(i)
	}
	n := s.ImageBytes()
	return s.Pixels[i*n : (i+1)*n : (i+1)*n]
}

// Key returns an identity of image i that does not change when a subset is
// taken: its file, relative to the set's folder ("train/airplane/0001.png"),
// or "#" and its index in the split as read ("#123").
func (s *Set) Key(i int) string {
	if s.Files != nil {
		return s.Files[i]
	}
	if s.origin != nil {
		i = s.origin[i]
	}
	return "#" + strconv.Itoa(i)
}

// WithImages returns a set that is like s, with labels of its own, but has what
// image returns for each image. It is called whenever an image is asked for, by
// several goroutines at once, and must return the same bytes every time.
func (s *Set) WithImages(image func(i int) []byte) *Set {
	out := *s
	out.Labels = slices.Clone(s.Labels)
	out.Pixels, out.mapped, out.image = nil, nil, image
	return &out
}

// Subset returns a set of the images idx of s, in that order. Indices must lie
// in 0 … Len()-1; the classes stay as they are.
func (s *Set) Subset(idx []int) *Set {
	idx = slices.Clone(idx)
	sub := s.WithImages(func(i int) []byte { return s.Image(idx[i]) })
	sub.Labels, sub.Files, sub.origin = make([]int32, 0, len(idx)), nil, nil
	for _, i := range idx {
		sub.Labels = append(sub.Labels, s.Labels[i])
		switch {
		case s.Files != nil:
			sub.Files = append(sub.Files, s.Files[i])
		case s.origin != nil:
			sub.origin = append(sub.origin, s.origin[i])
		default:
			sub.origin = append(sub.origin, i)
		}
	}
	return sub
}

// CheckPixels refuses a set whose pixels are not those of Len images.
func (s *Set) CheckPixels() error {
	if s.image == nil && len(s.Pixels) != s.Len()*s.ImageBytes() {
		return fmt.Errorf("%d bytes of pixels, want %d images of %d", len(s.Pixels), s.Len(), s.ImageBytes())
	}
	return nil
}

// Split tells the training part of a set from its test part.
type Split string

// The two splits.
const (
	Train Split = "train"
	Test  Split = "test"
)

// FormatError says what is wrong with an input file.
type FormatError struct {
	Path   string // the file
	Offset int64  // byte position of the fault, -1 where there is none
	Reason string // lower-case, without a full stop
	Err    error  // the cause, or nil
}

// Error implements error. A path with anything but visible characters and spaces
// is quoted, so that a hostile name cannot reach the terminal.
func (e *FormatError) Error() string {
	path := e.Path
	if path == "" || printable.Line(path) != path {
		path = strconv.QuoteToASCII(path)
	}
	if e.Offset < 0 {
		return fmt.Sprintf("%s: %s", path, e.Reason)
	}
	return fmt.Sprintf("%s: at byte %d: %s", path, e.Offset, e.Reason)
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// fault makes a FormatError whose path the caller fills in.
func fault(offset int64, format string, args ...any) *FormatError {
	return &FormatError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// nameFault says what makes a name of a file or class unusable, or "".
func nameFault(name string) string {
	switch {
	case name == "":
		return "name is empty"
	case !utf8.ValidString(name):
		return "name is not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "name has control characters"
	}
	return ""
}
