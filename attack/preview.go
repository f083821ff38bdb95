package attack

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"slices"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"cordon/dataset"
)

const (
	previewSide  = 96 // images smaller than this are enlarged, in pixels
	previewGap   = 4  // between images, in pixels
	previewTitle = 16 // height of a line of text, in pixels
	previewGain  = 8  // differences are shown up to this much larger
	previewRow   = 4  // samples side by side
	previewMost  = 12 // samples of one kind
	previewKinds = 24 // of samples
)

// Preview writes a PNG of changed samples, each as three images side by side:
// clean, poisoned, and their difference around grey, amplified as the title says.
// Samples of one part and role stand under their title, spread evenly over the
// set: up to twelve where there is one kind, up to four of each where there are
// several, of which the first twenty-four are shown. Small images are enlarged by
// whole factors without smoothing. clean and poisoned are Apply's input and output; a
// truth that changes nothing is an error.
func Preview(w io.Writer, clean, poisoned *dataset.Set, t *Truth) error {
	if ShapeOf(clean) != t.Shape || ShapeOf(poisoned) != t.Shape || clean.Len() != t.sourceSamples() || poisoned.Len() != t.Samples {
		return errors.New("preview: the clean or the poisoned set is not the one of the truth")
	}
	clean, err := t.enlarged(clean)
	if err != nil {
		return err
	}
	var bands []band
	for k, p := range t.Parts {
		for _, role := range roles() {
			title := fmt.Sprintf("%s, %s%s", role, p.Mode, p.aim(t.Classes))
			bands = append(bands, band{title, p.spec(role), t.sources(k, role), poisoned.Image})
		}
	}
	return paint(w, clean, bands)
}

// PreviewTest is Preview for the images that ASR is measured on: test images
// with the trigger of each part that has a goal. Triggers of parts without one
// may be nil.
func PreviewTest(w io.Writer, test *dataset.Set, parts []Part, triggers []Trigger) error {
	var bands []band
	for k, p := range parts {
		var samples []int
		for i, label := range test.Labels {
			if p.Goal(label, len(test.Classes)) != label {
				samples = append(samples, i)
			}
		}
		bands = append(bands, band{fmt.Sprintf("test, %s%s", p.Mode, p.aim(test.Classes)), p.Test, samples, func(i int) []byte {
			return triggered(triggers[k], test.Image(i), i)
		}})
	}
	return paint(w, test, bands)
}

// band is what a preview shows of one kind of samples.
type band struct {
	title   string
	trigger Spec
	samples []int
	after   func(sample int) []byte
}

// paint draws the bands that have samples.
func paint(w io.Writer, clean *dataset.Set, bands []band) error {
	bands = slices.DeleteFunc(bands, func(b band) bool { return len(b.samples) == 0 })
	if len(bands) == 0 {
		return errors.New("preview: no sample is changed")
	}
	if more := len(bands) - previewKinds; more > 0 {
		bands = bands[:previewKinds]
		bands[previewKinds-1].title += fmt.Sprintf(" (%d more kinds are not shown)", more)
	}
	most := previewMost
	if len(bands) > 1 {
		most = previewRow
	}
	for i, b := range bands {
		bands[i].samples = evenly(b.samples, most)
	}
	g := newGrid(ShapeOf(clean), bands)
	for _, b := range bands {
		gain := b.gain(clean)
		g.title(fmt.Sprintf("%s, difference x%d: %s", b.title, gain, b.trigger))
		for k, i := range b.samples {
			before, after := clean.Image(i), b.after(i)
			column := k % previewRow * 3
			g.draw(column, before)
			g.draw(column+1, after)
			g.draw(column+2, amplified(before, after, gain))
			if k%previewRow == previewRow-1 || k == len(b.samples)-1 {
				g.top += g.shape.Height*g.scale + previewGap
			}
		}
	}
	if err := png.Encode(w, g.canvas); err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	return nil
}

// evenly takes up to most samples, at equal distances.
func evenly(samples []int, most int) []int {
	out := make([]int, min(most, len(samples)))
	for j := range out {
		out[j] = samples[j*len(samples)/len(out)]
	}
	return out
}

// gain is how much the band's differences can be amplified: the largest power of
// two up to previewGain by which at most one value in a hundred is cut off.
func (b band) gain(clean *dataset.Set) int {
	var count [256]int // of differences of that size
	for _, i := range b.samples {
		before, after := clean.Image(i), b.after(i)
		for k := range before {
			count[max(before[k], after[k])-min(before[k], after[k])]++
		}
	}
	size, most := 255, len(b.samples)*clean.ImageBytes()/100
	for cut := count[size]; size > 0 && cut <= most; cut += count[size] {
		size--
	}
	gain := previewGain
	for gain > 1 && gain*size > 128 {
		gain /= 2
	}
	return gain
}

// amplified shows the change of each sample around grey.
func amplified(before, after []byte, gain int) []byte {
	out := make([]byte, len(before))
	for i := range out {
		out[i] = toByte(128 + float64(gain)*(float64(after[i])-float64(before[i])))
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
