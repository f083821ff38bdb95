package attack

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"

	"cordon/dataset"
)

const (
	previewSide = 112 // images smaller than this are enlarged, in pixels
	previewGap  = 4   // between images, in pixels
	previewGain = 8   // differences are shown this much larger
	previewMost = 64  // columns
)

// Preview writes a PNG of up to n poisoned samples, 1 ≤ n ≤ 64, spread evenly
// over the plan, one a column: above the clean image, below it the poisoned
// one, at the bottom their difference, eight times amplified around grey. Small
// images are enlarged by whole factors without smoothing. clean and poisoned
// are Apply's input and output; a plan without samples is an error.
func Preview(w io.Writer, clean, poisoned *dataset.Set, plan *Plan, n int) error {
	if n < 1 || n > previewMost {
		return fmt.Errorf("preview of %d samples: must be 1 to %d", n, previewMost)
	}
	if len(plan.Indices) == 0 {
		return errors.New("preview: no sample is poisoned")
	}
	if ShapeOf(clean) != ShapeOf(poisoned) || clean.Len() != poisoned.Len() {
		return errors.New("preview: the clean and the poisoned set differ in size")
	}
	if err := plan.check(clean); err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	g := newGrid(ShapeOf(clean), min(n, len(plan.Indices)), 3)
	for column := range g.columns {
		i := plan.Indices[column*len(plan.Indices)/g.columns]
		before, after := clean.Image(i), poisoned.Image(i)
		g.draw(column, 0, before)
		g.draw(column, 1, after)
		g.draw(column, 2, amplified(before, after))
	}
	if err := png.Encode(w, g.canvas); err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	return nil
}

// amplified shows the change of each sample around grey.
func amplified(before, after []byte) []byte {
	out := make([]byte, len(before))
	for i := range out {
		out[i] = toByte(128 + previewGain*(float64(after[i])-float64(before[i])))
	}
	return out
}

// grid lays out images of one shape in columns and rows on white.
type grid struct {
	shape   Shape
	columns int
	scale   int // pixels per pixel
	canvas  *image.RGBA
}

func newGrid(shape Shape, columns, rows int) *grid {
	g := &grid{shape: shape, columns: columns}
	g.scale = max(1, (previewSide+shape.Width-1)/shape.Width)
	width := columns*(shape.Width*g.scale+previewGap) + previewGap
	height := rows*(shape.Height*g.scale+previewGap) + previewGap
	g.canvas = image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range g.canvas.Pix {
		g.canvas.Pix[i] = 255
	}
	return g
}

// draw paints one image, enlarged to its nearest neighbour.
func (g *grid) draw(column, row int, pixels []byte) {
	left := previewGap + column*(g.shape.Width*g.scale+previewGap)
	top := previewGap + row*(g.shape.Height*g.scale+previewGap)
	for y := range g.shape.Height * g.scale {
		for x := range g.shape.Width * g.scale {
			at := (y/g.scale*g.shape.Width + x/g.scale) * g.shape.Channels
			g.canvas.SetRGBA(left+x, top+y, rgba(pixels[at:at+g.shape.Channels]))
		}
	}
}

func rgba(samples []byte) color.RGBA {
	if len(samples) == 1 {
		return color.RGBA{samples[0], samples[0], samples[0], 255}
	}
	return color.RGBA{samples[0], samples[1], samples[2], 255}
}
