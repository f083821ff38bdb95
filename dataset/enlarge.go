package dataset

import (
	"errors"
	"fmt"
	"image"
	"path"
	"slices"
	"strings"

	"cordon/internal/seed"
)

// Variant is a way to make another image of one.
type Variant string

// The variants: the image itself and the five of § 5.1 of the paper, by its
// names for them.
const (
	// Original is the image as it is.
	Original Variant = "original"
	// CenterCrop takes the middle seven eighths of each side, scaled to the
	// whole.
	CenterCrop Variant = "centercrop"
	// ColorJitter changes brightness, contrast and saturation, in this order,
	// by factors drawn from 0.6 to 1.4 for each image.
	ColorJitter Variant = "colorjitter"
	// Grayscale replaces colours by their luma (ITU-R BT.601).
	Grayscale Variant = "grayscale"
	// HFlip swaps left and right.
	HFlip Variant = "hflip"
	// VFlip swaps top and bottom.
	VFlip Variant = "vflip"
)

// PaperVariants returns the five by which the paper makes TSRD five times as
// large (§ 5.1).
func PaperVariants() []Variant {
	return []Variant{CenterCrop, ColorJitter, Grayscale, HFlip, VFlip}
}

// paperName stands for PaperVariants where variants are named.
const paperName = "paper"

// Variants returns the variants that names stand for; "paper" stands for all of
// PaperVariants. CheckVariants says whether they can be used.
func Variants(names []string) []Variant {
	var out []Variant
	for _, name := range names {
		if name == paperName {
			out = append(out, PaperVariants()...)
		} else {
			out = append(out, Variant(name))
		}
	}
	return out
}

// Enlarge returns a set that holds each variant of every image: first all
// images in the first variant, then all in the second, and so on, so that
// variant v of image i is at v·Len()+i. An image's file is named after that it
// came from: "train/a.hflip.png". The result is made of s image by image, each
// when it is asked for, and depends on s, the variants and the seed alone.
func (s *Set) Enlarge(variants []Variant, seedValue uint64) (*Set, error) {
	if len(variants) == 0 {
		return nil, errors.New("no variants to enlarge by")
	}
	if err := CheckVariants(variants, s.Channels); err != nil {
		return nil, err
	}
	n, most := s.Len(), DefaultLimits().MaxSamples
	if n > most/len(variants) {
		return nil, fmt.Errorf("%d images in %d variants are over the limit of %d", n, len(variants), most)
	}
	variants = slices.Clone(variants)
	out := s.WithImages(func(i int) []byte { return s.vary(i%n, variants[i/n], seedValue) })
	out.Labels, out.Files, out.Skipped, out.origin = nil, nil, nil, nil
	for _, v := range variants {
		out.Labels = append(out.Labels, s.Labels...)
		for _, file := range s.Files {
			out.Files = append(out.Files, v.file(file))
		}
	}
	return out, nil
}

// CheckVariants refuses unknown variants and those that would make copies of images
// with that many channels.
func CheckVariants(variants []Variant, channels int) error {
	known := append(PaperVariants(), Original)
	for i, v := range variants {
		switch {
		case !slices.Contains(known, v):
			return fmt.Errorf("unknown variant %q: want some of %v", v, known)
		case slices.Contains(variants[:i], v):
			return fmt.Errorf("variant %q is named twice", v)
		case v == Grayscale && channels == 1:
			return fmt.Errorf("variant %q: the images are grey already", v)
		}
	}
	return nil
}

// file names the variant of an image.
func (v Variant) file(name string) string {
	if v == Original {
		return name
	}
	ending := path.Ext(name)
	return strings.TrimSuffix(name, ending) + "." + string(v) + ending
}

// vary returns a variant of image i.
func (s *Set) vary(i int, v Variant, seedValue uint64) []byte {
	if v == Original {
		return s.Image(i)
	}
	dst := make([]byte, s.ImageBytes())
	switch v {
	case CenterCrop:
		x, y := (s.Width+8)/16, (s.Height+8)/16 // rounded
		middle := image.Rect(x, y, s.Width-x, s.Height-y)
		pack(dst, s.Channels, scaled(s.Picture(i), middle, s.Width, s.Height))
	case HFlip:
		s.rearrange(dst, i, func(x, y int) (int, int) { return s.Width - 1 - x, y })
	case VFlip:
		s.rearrange(dst, i, func(x, y int) (int, int) { return x, s.Height - 1 - y })
	default:
		copy(dst, s.Image(i))
	}
	switch v {
	case Grayscale:
		saturate(dst, 0)
	case ColorJitter:
		s.jitter(dst, seedValue, i)
	}
	return dst
}

// rearrange writes image i to dst with the pixel (x, y) taken from another.
func (s *Set) rearrange(dst []byte, i int, from func(x, y int) (int, int)) {
	src, n := s.Image(i), s.Channels
	for y := range s.Height {
		for x := range s.Width {
			fromX, fromY := from(x, y)
			copy(dst[n*(y*s.Width+x):][:n], src[n*(fromY*s.Width+fromX):])
		}
	}
}

// Factors are whole thousandths, so that all machines compute the same bytes.
const (
	unity       = 1000
	leastJitter = 600
	mostJitter  = 1400
)

// jitter changes image i, whose pixels are given.
func (s *Set) jitter(pixels []byte, seedValue uint64, i int) {
	random := seed.Stream(seedValue, "data/enlarge/colorjitter", uint64(i))
	draw := func() int { return leastJitter + random.IntN(mostJitter-leastJitter+1) }
	brightness, contrast, saturation := draw(), draw(), draw()
	for k, v := range pixels {
		pixels[k] = blend(0, int(v), brightness)
	}
	mean := meanLuma(pixels, s.Channels)
	for k, v := range pixels {
		pixels[k] = blend(mean, int(v), contrast)
	}
	if s.Channels == 3 {
		saturate(pixels, saturation)
	}
}

// saturate moves RGB pixels from their luma (factor 0) to themselves (unity)
// and beyond.
func saturate(rgb []byte, factor int) {
	for p := 0; p < len(rgb); p += 3 {
		grey := luma(rgb[p:])
		for k := p; k < p+3; k++ {
			rgb[k] = blend(grey, int(rgb[k]), factor)
		}
	}
}

// blend is a + factor·(b − a), rounded and clipped to 0 … 255.
func blend(a, b, factor int) byte {
	v := a*(unity-factor) + b*factor
	return byte(min(max(v+unity/2, 0)/unity, 255))
}

// luma is the brightness of an RGB pixel by ITU-R BT.601.
func luma(rgb []byte) int {
	return (299*int(rgb[0]) + 587*int(rgb[1]) + 114*int(rgb[2]) + 500) / 1000
}

// meanLuma is the mean brightness of an image, rounded.
func meanLuma(pixels []byte, channels int) int {
	sum, n := 0, len(pixels)/channels
	for p := 0; p < len(pixels); p += channels {
		if channels == 3 {
			sum += luma(pixels[p:])
		} else {
			sum += int(pixels[p])
		}
	}
	return (sum + n/2) / n
}
