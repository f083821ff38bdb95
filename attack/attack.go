// Package attack plants backdoors in image sets, for tests and red teams.
//
// Three choices are independent: which pixels change (the Trigger that an
// Attack makes), which label a sample gets (the LabelMode), and which samples
// they are. A Part holds the three; Plan draws the samples of a list of parts
// from a seed. The result, a Truth, is everything that is to be known of a
// poisoned set, apart from the data: Apply makes the set from its source.
//
// # Arithmetic
//
// A trigger computes in float64 from 8-bit samples. Its result is rounded to a
// multiple of 2⁻²⁰, then to the nearest integer with halves going up, then
// clipped to 0…255. The first rounding makes ties exact, so that the last bit
// of a sine or a fused multiply-add cannot change a byte between machines.
package attack

import (
	"flag"
	"fmt"
	"math"

	"cordon/dataset"
)

// Attack is a trigger's recipe: its parameters and its usual label mode. The
// implementations are option structs such as BadNets.
type Attack interface {
	// Name identifies the attack in commands and truth files: lower-case letters.
	Name() string
	// Summary says in one line what the trigger does and where it comes from.
	Summary() string
	// Mode is the label mode the attack is usually run with, or "".
	Mode() LabelMode
	// Params declares every parameter on fs, bound to the receiver's fields,
	// with the field's present value as default. A trigger depends on nothing
	// else, so the parameters rebuild it.
	Params(fs *flag.FlagSet)
	// Validate refuses parameters out of range.
	Validate() error
	// Trigger makes the trigger for images of one shape. It refuses invalid
	// parameters and images too small for the trigger.
	Trigger(shape Shape) (Trigger, error)
}

// Trigger changes the pixels of one image. It is safe for concurrent use.
type Trigger interface {
	// Shape is the size of the images it was made for.
	Shape() Shape
	// Apply writes the triggered image to dst. Both hold height·width·channels
	// bytes in height × width × channel order and do not overlap. index is the
	// image's position in its set, for triggers that draw something per image.
	// Results are rounded to the nearest integer and clipped to 0…255.
	Apply(dst, src []byte, index int)
}

// LabelMode says whose samples are poisoned and what label they get.
type LabelMode string

// The label modes.
const (
	// DirtyLabel poisons samples of other classes and relabels them to the target.
	DirtyLabel LabelMode = "dirty-label"
	// CleanLabel poisons samples of the target class and keeps their label.
	CleanLabel LabelMode = "clean-label"
	// AllToAll poisons samples of every class y and relabels them to y+1, the
	// last class to 0.
	AllToAll LabelMode = "all-to-all"
	// LabelNoise gives samples of every class another label, each equally likely.
	LabelNoise LabelMode = "label-noise"
)

// Validate refuses a mode that is none of the four.
func (m LabelMode) Validate() error {
	return oneOf("label mode", string(m), string(DirtyLabel), string(CleanLabel), string(AllToAll), string(LabelNoise))
}

// Targeted tells whether the mode has a target label.
func (m LabelMode) Targeted() bool { return m == DirtyLabel || m == CleanLabel }

// Shape is the size of the images a trigger is made for.
type Shape struct {
	Height   int `json:"height"`   // pixels
	Width    int `json:"width"`    // pixels
	Channels int `json:"channels"` // 1 grey or 3 RGB
}

// ShapeOf returns the shape of a set's images.
func ShapeOf(s *dataset.Set) Shape { return Shape{s.Height, s.Width, s.Channels} }

// Bytes returns the size of one image.
func (s Shape) Bytes() int { return s.Height * s.Width * s.Channels }

// String returns height × width × channels.
func (s Shape) String() string { return fmt.Sprintf("%d×%d×%d", s.Height, s.Width, s.Channels) }

// maxSide bounds the height and width of an image in pixels.
const maxSide = 1 << 15

// Validate refuses sides outside 1…32768 and channel counts other than 1 and 3.
func (s Shape) Validate() error {
	if s.Height < 1 || s.Height > maxSide || s.Width < 1 || s.Width > maxSide {
		return fmt.Errorf("image of %d×%d pixels: sides must be 1 to %d", s.Height, s.Width, maxSide)
	}
	if s.Channels != 1 && s.Channels != 3 {
		return fmt.Errorf("image of %d channels: must be 1 or 3", s.Channels)
	}
	return nil
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

// toByte rounds and clips as the package comment says.
func toByte(v float64) byte {
	const steps = 1 << 20
	v = math.Round(v*steps) / steps
	return byte(min(max(math.Floor(v+.5), 0), 255))
}
