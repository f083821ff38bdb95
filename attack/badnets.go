package attack

import (
	"flag"
	"fmt"
)

// BadNets stamps a small square patch into a corner, flush with both edges
// (Gu et al. 2017, "BadNets"; BadNets in table 2).
type BadNets struct {
	Size    int    // side of the patch in pixels, at least 1
	Corner  string // top-left, top-right, bottom-left or bottom-right
	Pattern string // square: all white; checkerboard: white and black pixels, white first
}

// DefaultBadNets returns a white 3×3 square at the bottom right.
func DefaultBadNets() *BadNets {
	return &BadNets{Size: 3, Corner: "bottom-right", Pattern: "square"}
}

// Name returns "badnets".
func (b *BadNets) Name() string { return "badnets" }

// Summary describes the trigger.
func (b *BadNets) Summary() string {
	return "a small patch in a corner (Gu et al. 2017)"
}

// Mode returns DirtyLabel.
func (b *BadNets) Mode() LabelMode { return DirtyLabel }

// Params declares size, corner and pattern.
func (b *BadNets) Params(fs *flag.FlagSet) {
	fs.IntVar(&b.Size, "size", b.Size, "side of the patch in pixels")
	fs.StringVar(&b.Corner, "corner", b.Corner, "top-left, top-right, bottom-left or bottom-right")
	fs.StringVar(&b.Pattern, "pattern", b.Pattern, "square (white) or checkerboard")
}

// Validate refuses an empty patch and unknown corners and patterns.
func (b *BadNets) Validate() error {
	if b.Size < 1 {
		return fmt.Errorf("badnets: size %d: must be at least 1", b.Size)
	}
	if err := oneOf("badnets: corner", b.Corner, "top-left", "top-right", "bottom-left", "bottom-right"); err != nil {
		return err
	}
	return oneOf("badnets: pattern", b.Pattern, "square", "checkerboard")
}

// Trigger makes the patch for images of one shape.
func (b *BadNets) Trigger(shape Shape) (Trigger, error) {
	if err := validate(b, shape); err != nil {
		return nil, err
	}
	if b.Size > min(shape.Height, shape.Width) {
		return nil, fmt.Errorf("badnets: a patch of %d×%d pixels does not fit images of %d×%d",
			b.Size, b.Size, shape.Height, shape.Width)
	}
	p := patch{shape: shape, size: b.Size, checkerboard: b.Pattern == "checkerboard"}
	if b.Corner == "bottom-left" || b.Corner == "bottom-right" {
		p.top = shape.Height - b.Size
	}
	if b.Corner == "top-right" || b.Corner == "bottom-right" {
		p.left = shape.Width - b.Size
	}
	return p, nil
}

// patch is the trigger of BadNets.
type patch struct {
	shape           Shape
	top, left, size int
	checkerboard    bool
}

func (p patch) Shape() Shape { return p.shape }

func (p patch) Apply(dst, src []byte, _ int) {
	copy(dst, src)
	for y := range p.size {
		for x := range p.size {
			at := ((p.top+y)*p.shape.Width + p.left + x) * p.shape.Channels
			for c := range p.shape.Channels {
				dst[at+c] = p.value(y, x)
			}
		}
	}
}

func (p patch) value(y, x int) byte {
	if p.checkerboard && (y+x)%2 == 1 {
		return 0
	}
	return 255
}

// validate is what every attack checks before it makes a trigger.
func validate(a Attack, shape Shape) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if err := shape.Validate(); err != nil {
		return fmt.Errorf("%s: %w", a.Name(), err)
	}
	return nil
}
