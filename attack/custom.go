package attack

import (
	"flag"
	"fmt"
)

// Custom lays the user's own picture over the image: x′ = (1−w)x + wp, where
// the weight w of a pixel is Opacity times the picture's own opacity there times
// the mask (the general form of Wang et al. 2019, "Neural Cleanse", § III).
type Custom struct {
	Image   Picture // of the size of the images; transparent pixels change nothing
	Mask    Picture // grey, of the same size: white changes all, black nothing; none is white
	Opacity float64 // above 0 and at most 1
}

// DefaultCustom returns full opacity, and no picture yet.
func DefaultCustom() *Custom { return &Custom{Opacity: 1} }

// Name returns "custom".
func (c *Custom) Name() string { return "custom" }

// Summary describes the trigger.
func (c *Custom) Summary() string { return "your own picture (PNG) laid over the image" }

// Mode returns DirtyLabel.
func (c *Custom) Mode() LabelMode { return DirtyLabel }

// Params declares image, mask and opacity.
func (c *Custom) Params(fs *flag.FlagSet) {
	fs.Var(&c.Image, "image", "PNG file of the size of the images")
	fs.Var(&c.Mask, "mask", "grey PNG file: white changes all, black nothing")
	fs.Float64Var(&c.Opacity, "opacity", c.Opacity, "weight of the picture, above 0 and at most 1")
}

// Validate refuses an opacity outside (0, 1].
func (c *Custom) Validate() error {
	if !(c.Opacity > 0 && c.Opacity <= 1) { // NaN too
		return fmt.Errorf("custom: opacity %v: must be above 0 and at most 1", c.Opacity)
	}
	return nil
}

// Trigger decodes the pictures, which must have the shape's height and width,
// and refuses a mask that lets nothing through.
func (c *Custom) Trigger(shape Shape) (Trigger, error) {
	if err := validate(c, shape); err != nil {
		return nil, err
	}
	picture, opacity, err := c.Image.decode(shape)
	if err != nil {
		return nil, fmt.Errorf("custom: image: %w", err)
	}
	out := overlay{shape, picture, make([]float64, len(opacity))}
	for i, v := range opacity {
		out.weight[i] = c.Opacity * float64(v) / 255
	}
	if err := c.applyMask(out); err != nil {
		return nil, fmt.Errorf("custom: mask: %w", err)
	}
	for _, w := range out.weight {
		if w > 0 {
			return out, nil
		}
	}
	return nil, fmt.Errorf("custom: %s and its mask are transparent everywhere", c.Image.path)
}

func (c *Custom) applyMask(o overlay) error {
	if c.Mask.path == "" {
		return nil
	}
	mask, _, err := c.Mask.decode(Shape{o.shape.Height, o.shape.Width, 1})
	if err != nil {
		return err
	}
	for i, v := range mask {
		o.weight[i] *= float64(v) / 255
	}
	return nil
}

// overlay is the trigger of Custom.
type overlay struct {
	shape   Shape
	picture []byte
	weight  []float64 // of each pixel
}

func (o overlay) Shape() Shape { return o.shape }

func (o overlay) Apply(dst, src []byte, _ int) {
	for i, p := range o.picture {
		w := o.weight[i/o.shape.Channels]
		dst[i] = toByte((1-w)*float64(src[i]) + w*float64(p))
	}
}
