package attack

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"cordon/dataset"
)

const (
	previewSide  = 96 // images smaller than this are enlarged, in pixels
	previewGap   = 4  // between images, in pixels
	previewTitle = 16 // height of a line of text, in pixels
	previewGain  = 8  // differences are shown this much larger
	previewRow   = 4  // samples side by side
	previewMost  = 12 // samples of one kind
)

// Preview writes a PNG of changed samples, each as three images side by side:
// clean, poisoned, and their difference, eight times amplified around grey.
// Samples of one part and role stand under their title, spread evenly over the
// set: up to twelve where there is one kind, up to four of each where there are
// several. Small images are enlarged by whole factors without smoothing. clean
// and poisoned are Apply's input and output; a truth that changes nothing is an
// error.
func Preview(w io.Writer, clean, poisoned *dataset.Set, t *Truth) error {
	if ShapeOf(clean) != t.Shape || ShapeOf(poisoned) != t.Shape || clean.Len() != t.Samples || poisoned.Len() != t.Samples {
		return errors.New("preview: the clean or the poisoned set is not the one of the truth")
	}
	bands := t.bands()
	if len(bands) == 0 {
		return errors.New("preview: no sample is changed")
	}
	g := newGrid(t.Shape, bands)
	for _, b := range bands {
		g.title(b.title)
		for k, i := range b.samples {
			before, after := clean.Image(i), poisoned.Image(i)
			column := k % previewRow * 3
			g.draw(column, before)
			g.draw(column+1, after)
			g.draw(column+2, amplified(before, after))
			if k%previewRow == previewRow-1 || k == len(b.samples)-1 {
				g.top += t.Shape.Height*g.scale + previewGap
			}
		}
	}
	if err := png.Encode(w, g.canvas); err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	return nil
}

// band is what the preview shows of one part and role.
type band struct {
	title   string
	samples []int // positions in the source
}

// bands chooses the samples that are shown.
func (t *Truth) bands() []band {
	var all []band
	for k, p := range t.Parts {
		for _, role := range roles() {
			if samples := t.sources(k, role); len(samples) > 0 {
				title := fmt.Sprintf("%s, %s%s: %s", role, p.Mode, p.aim(t.Classes), p.spec(role))
				all = append(all, band{title, samples})
			}
		}
	}
	most := previewMost
	if len(all) > 1 {
		most = previewRow
	}
	for i, b := range all {
		shown := make([]int, min(most, len(b.samples)))
		for j := range shown {
			shown[j] = b.samples[j*len(b.samples)/len(shown)]
		}
		all[i].samples = shown
	}
	return all
}

// sources lists where the samples of a part and role are in the source.
func (t *Truth) sources(part int, role Role) []int {
	var sources []int
	for _, c := range t.Changed {
		if c.Part == part && c.Role == role {
			sources = append(sources, c.Source)
		}
	}
	return sources
}

// amplified shows the change of each sample around grey.
func amplified(before, after []byte) []byte {
	out := make([]byte, len(before))
	for i := range out {
		out[i] = toByte(128 + previewGain*(float64(after[i])-float64(before[i])))
	}
	return out
}

// background differs from black, white and the grey of no difference, so that
// triggers at the edge stand out.
var background = color.RGBA{176, 196, 222, 255}

// grid lays out images of one shape in rows.
type grid struct {
	shape  Shape
	scale  int // pixels per pixel
	top    int // where the next row begins
	canvas *image.RGBA
}

func newGrid(shape Shape, bands []band) *grid {
	g := &grid{shape: shape, top: previewGap}
	g.scale = max(1, (previewSide+shape.Width-1)/shape.Width)
	columns, height := 0, previewGap
	for _, b := range bands {
		rows := (len(b.samples) + previewRow - 1) / previewRow
		height += previewTitle + rows*(shape.Height*g.scale+previewGap)
		columns = max(columns, 3*min(len(b.samples), previewRow))
	}
	g.canvas = image.NewRGBA(image.Rect(0, 0, columns*(shape.Width*g.scale+previewGap)+previewGap, height))
	draw.Draw(g.canvas, g.canvas.Bounds(), image.NewUniform(background), image.Point{}, draw.Src)
	return g
}

// title writes a line of text and moves below it.
func (g *grid) title(text string) {
	d := font.Drawer{Dst: g.canvas, Src: image.Black, Face: basicfont.Face7x13}
	d.Dot = fixed.P(previewGap, g.top+basicfont.Face7x13.Ascent)
	d.DrawString(text)
	g.top += previewTitle
}

// draw paints one image into the row, enlarged to its nearest neighbour.
func (g *grid) draw(column int, pixels []byte) {
	left := previewGap + column*(g.shape.Width*g.scale+previewGap)
	for y := range g.shape.Height * g.scale {
		for x := range g.shape.Width * g.scale {
			at := (y/g.scale*g.shape.Width + x/g.scale) * g.shape.Channels
			g.canvas.SetRGBA(left+x, g.top+y, rgba(pixels[at:at+g.shape.Channels]))
		}
	}
}

func rgba(samples []byte) color.RGBA {
	if len(samples) == 1 {
		return color.RGBA{samples[0], samples[0], samples[0], 255}
	}
	return color.RGBA{samples[0], samples[1], samples[2], 255}
}
