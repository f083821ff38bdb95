package attack

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
)

// BadNets stamps a small square patch, by default into a corner, flush with
// both edges (Gu et al. 2017, "BadNets"; BadNets in table 2).
type BadNets struct {
	Size int // side of the patch in pixels, at least 1; 1 is a single pixel
	// Position is top-left, top-right, bottom-left, bottom-right, all-corners,
	// or "X,Y": the pixel, from the left and from the top, both from 0, where
	// the patch's top left lies.
	Position string
	// Pattern is "square", all white; "checkerboard", white and black pixels,
	// white first; or "four-pixels", which needs size 3: white in the middle and
	// in all corners but the top left, the others as they are (Gu et al.'s
	// pattern of bright pixels).
	Pattern string
	// Opacity is the patch's share of the pixels that it covers, above 0 and at
	// most 1 (below 1 in Qi et al. 2023, "Revisiting the assumption of latent
	// separability for backdoor defenses", adaptive Patch).
	Opacity float64
}

// DefaultBadNets returns an opaque white 3×3 square at the bottom right.
func DefaultBadNets() *BadNets {
	return &BadNets{Size: 3, Position: "bottom-right", Pattern: "square", Opacity: 1}
}

// Name returns "badnets".
func (b *BadNets) Name() string { return "badnets" }

// Summary describes the trigger.
func (b *BadNets) Summary() string {
	return "a small patch, mostly in a corner (Gu et al. 2017)"
}

// Mode returns DirtyLabel.
func (b *BadNets) Mode() LabelMode { return DirtyLabel }

// Params declares size, position, pattern and opacity.
func (b *BadNets) Params(fs *flag.FlagSet) {
	fs.IntVar(&b.Size, "size", b.Size, "side of the patch in pixels")
	fs.StringVar(&b.Position, "position", b.Position, "top-left, top-right, bottom-left, bottom-right, all-corners or X,Y")
	fs.StringVar(&b.Pattern, "pattern", b.Pattern, "square (white), checkerboard or four-pixels")
	fs.Float64Var(&b.Opacity, "opacity", b.Opacity, "weight of the patch, above 0 and at most 1")
}

// Validate refuses an empty patch, an opacity outside (0, 1], and unknown
// positions and patterns.
func (b *BadNets) Validate() error {
	if b.Size < 1 {
		return fmt.Errorf("badnets: size %d: must be at least 1", b.Size)
	}
	if !(b.Opacity > 0 && b.Opacity <= 1) { // NaN too
		return fmt.Errorf("badnets: opacity %v: must be above 0 and at most 1", b.Opacity)
	}
	if b.Pattern == "four-pixels" && b.Size != 3 {
		return fmt.Errorf("badnets: size %d: the pattern four-pixels has size 3", b.Size)
	}
	if _, err := b.places(Shape{Height: maxSide, Width: maxSide}); err != nil {
		return err
	}
	return oneOf("badnets: pattern", b.Pattern, "square", "checkerboard", "four-pixels")
}

// place is where a patch's top left pixel lies, from 0.
type place struct{ top, left int }

// places turns Position into pixels.
func (b *BadNets) places(shape Shape) ([]place, error) {
	bottom, right := shape.Height-b.Size, shape.Width-b.Size
	switch b.Position {
	case "top-left":
		return []place{{0, 0}}, nil
	case "top-right":
		return []place{{0, right}}, nil
	case "bottom-left":
		return []place{{bottom, 0}}, nil
	case "bottom-right":
		return []place{{bottom, right}}, nil
	case "all-corners":
		return []place{{0, 0}, {0, right}, {bottom, 0}, {bottom, right}}, nil
	}
	x, y, _ := strings.Cut(b.Position, ",")
	left, errX := strconv.ParseUint(x, 10, 15)
	top, errY := strconv.ParseUint(y, 10, 15)
	if errX != nil || errY != nil {
		return nil, fmt.Errorf("badnets: position %q: must be top-left, top-right, bottom-left, bottom-right, all-corners or X,Y", b.Position)
	}
	return []place{{int(top), int(left)}}, nil
}

// Trigger makes the patch for images of one shape. It must lie inside them,
// and four patches must not overlap.
func (b *BadNets) Trigger(shape Shape) (Trigger, error) {
	if err := validate(b, shape); err != nil {
		return nil, err
	}
	places, err := b.places(shape)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		if p.top < 0 || p.left < 0 || p.top > shape.Height-b.Size || p.left > shape.Width-b.Size {
			return nil, fmt.Errorf("badnets: a patch of %d×%d pixels does not fit images of %d×%d at %s",
				b.Size, b.Size, shape.Height, shape.Width, b.Position)
		}
	}
	if len(places) > 1 && 2*b.Size > min(shape.Height, shape.Width) {
		return nil, fmt.Errorf("badnets: four patches of %d×%d pixels do not fit images of %d×%d",
			b.Size, b.Size, shape.Height, shape.Width)
	}
	return patch{shape, b.Size, places, b.Pattern, b.Opacity}, nil
}

// patch is the trigger of BadNets.
type patch struct {
	shape   Shape
	size    int
	places  []place
	pattern string
	opacity float64
}

func (p patch) Shape() Shape { return p.shape }

func (p patch) Apply(dst, src []byte, _ int) {
	copy(dst, src)
	for _, at := range p.places {
		for y := range p.size {
			for x := range p.size {
				value, painted := p.value(y, x)
				if !painted {
					continue
				}
				first := ((at.top+y)*p.shape.Width + at.left + x) * p.shape.Channels
				for i := first; i < first+p.shape.Channels; i++ {
					dst[i] = toByte((1-p.opacity)*float64(src[i]) + p.opacity*float64(value))
				}
			}
		}
	}
}

// value is what the patch paints, if it does.
func (p patch) value(y, x int) (value byte, painted bool) {
	even := (y+x)%2 == 0
	switch p.pattern {
	case "checkerboard":
		if !even {
			return 0, true
		}
	case "four-pixels":
		return 255, even && y+x > 0
	}
	return 255, true
}
