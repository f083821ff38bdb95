package attack

import (
	"flag"
	"fmt"
	"math"

	"cordon/internal/seed"
)

// WaNet bends the image by a smooth random field (Nguyen & Tran 2021, "WaNet –
// Imperceptible warping-based backdoor attack"; WaNet in table 2).
//
// A control grid of Grid × Grid random shifts, divided by their mean size, is
// brought to the image's size bicubically. Pixel p, in coordinates of −1…1 from
// edge to edge, then shows the image at (p + Strength·shift/side)·Rescale, cut
// to −1…1 and interpolated bilinearly. The mean shift is about Strength/2
// pixels in each direction, whatever the size of the image.
type WaNet struct {
	Grid     int     // k, points per side of the control grid, 2 to 64
	Strength float64 // s, above 0 and at most 100
	Rescale  float64 // of the whole field, above 0 and at most 2
	// Noise moves every pixel of every image by up to Noise/side more, drawn
	// anew for each image: 0 to 100. The original's cover samples have 1 (its
	// noise mode), so that only the exact field is the trigger.
	Noise float64
	// Seed draws the field and the noise. It is the attack's own: training and
	// test images are bent alike whatever seed chose the poisoned samples.
	Seed uint64
}

// DefaultWaNet returns the original's k = 4 and s = .5 without rescaling.
func DefaultWaNet() *WaNet { return &WaNet{Grid: 4, Strength: .5, Rescale: 1} }

// Name returns "wanet".
func (w *WaNet) Name() string { return "wanet" }

// Summary describes the trigger.
func (w *WaNet) Summary() string { return "a smooth warp of the image (Nguyen & Tran 2021)" }

// Mode returns DirtyLabel.
func (w *WaNet) Mode() LabelMode { return DirtyLabel }

// Params declares grid, strength, rescale, noise and seed.
func (w *WaNet) Params(fs *flag.FlagSet) {
	fs.IntVar(&w.Grid, "grid", w.Grid, "points per side of the control grid, 2 to 64")
	fs.Float64Var(&w.Strength, "strength", w.Strength, "twice the mean shift in pixels, above 0 and at most 100")
	fs.Float64Var(&w.Rescale, "rescale", w.Rescale, "of the whole field, above 0 and at most 2")
	fs.Float64Var(&w.Noise, "noise", w.Noise, "extra shift of each pixel, other in each image, 0 to 100; the original has 1 in covers")
	fs.Uint64Var(&w.Seed, "seed", w.Seed, "draws the field")
}

// Validate refuses parameters out of range.
func (w *WaNet) Validate() error {
	switch { // negated, so that NaN is refused too
	case w.Grid < 2 || w.Grid > 64:
		return fmt.Errorf("wanet: grid %d: must be 2 to 64", w.Grid)
	case !(w.Strength > 0 && w.Strength <= 100):
		return fmt.Errorf("wanet: strength %v: must be above 0 and at most 100", w.Strength)
	case !(w.Rescale > 0 && w.Rescale <= 2):
		return fmt.Errorf("wanet: rescale %v: must be above 0 and at most 2", w.Rescale)
	case !(w.Noise >= 0 && w.Noise <= 100):
		return fmt.Errorf("wanet: noise %v: must be 0 to 100", w.Noise)
	}
	return nil
}

// Trigger draws the field for images of one shape, which must have at least as
// many pixels per side as the control grid has points.
func (w *WaNet) Trigger(shape Shape) (Trigger, error) {
	if err := validate(w, shape); err != nil {
		return nil, err
	}
	if min(shape.Height, shape.Width) < w.Grid {
		return nil, fmt.Errorf("wanet: a control grid of %d×%d points does not fit images of %d×%d pixels",
			w.Grid, w.Grid, shape.Height, shape.Width)
	}
	return newWarp(shape, *w, drawControl(w.Grid, w.Seed)), nil
}

// vector is a shift or a position: first to the right, then down.
type vector [2]float64

// drawControl draws a k×k grid of shifts, row by row, uniform in [−1, 1).
func drawControl(k int, s uint64) []vector {
	random := seed.Stream(s, "wanet/field")
	control := make([]vector, k*k)
	for i := range control {
		control[i] = vector{2*random.Float64() - 1, 2*random.Float64() - 1}
	}
	return control
}

// warp is the trigger of WaNet.
type warp struct {
	shape Shape
	noise float64
	seed  uint64
	from  []vector // where each pixel's value is taken from, in −1…1
}

func newWarp(shape Shape, w WaNet, control []vector) *warp {
	mean := 0.
	for _, v := range control {
		mean += math.Abs(v[0]) + math.Abs(v[1])
	}
	mean /= float64(2 * len(control))
	out := &warp{shape: shape, noise: w.Noise, seed: w.Seed, from: make([]vector, shape.Height*shape.Width)}
	rows, columns := cubic(shape.Height, w.Grid), cubic(shape.Width, w.Grid)
	for y := range shape.Height {
		for x := range shape.Width {
			shift := weigh(control, w.Grid, rows[y], columns[x])
			out.from[y*shape.Width+x] = vector{
				w.Rescale * (across(x, shape.Width) + w.Strength*shift[0]/mean/float64(shape.Width)),
				w.Rescale * (across(y, shape.Height) + w.Strength*shift[1]/mean/float64(shape.Height)),
			}
		}
	}
	return out
}

// across returns the position of pixel i of n: −1 the first, 1 the last.
func across(i, n int) float64 {
	if n == 1 {
		return -1
	}
	return 2*float64(i)/float64(n-1) - 1
}

// tap says how much each of four control points counts.
type tap struct {
	at     [4]int
	weight [4]float64
}

// cubic returns, for each of n pixels, its taps on k control points spread
// from the first pixel to the last: cubic convolution with a = −3/4, points
// beyond the edge repeat the outermost.
func cubic(n, k int) []tap {
	const a = -.75
	near := func(d float64) float64 { return ((a+2)*d-(a+3))*d*d + 1 }
	far := func(d float64) float64 { return ((a*d-5*a)*d+8*a)*d - 4*a }
	taps := make([]tap, n)
	for i := range taps {
		t := 0.
		if n > 1 {
			t = float64(i) * float64(k-1) / float64(n-1)
		}
		left := int(t)
		d := t - float64(left)
		for j := range 4 {
			taps[i].at[j] = min(max(left+j-1, 0), k-1)
		}
		taps[i].weight = [4]float64{far(1 + d), near(d), near(1 - d), far(2 - d)}
	}
	return taps
}

// weigh interpolates the control grid.
func weigh(control []vector, k int, row, column tap) vector {
	var sum vector
	for i, y := range row.at {
		for j, x := range column.at {
			w := row.weight[i] * column.weight[j]
			sum[0] += w * control[y*k+x][0]
			sum[1] += w * control[y*k+x][1]
		}
	}
	return sum
}

func (w *warp) Shape() Shape { return w.shape }

func (w *warp) Apply(dst, src []byte, index int) {
	if w.noise == 0 {
		w.bend(dst, src, func() vector { return vector{} })
		return
	}
	random := seed.Stream(w.seed, "wanet/noise", uint64(index))
	w.bend(dst, src, func() vector { return vector{2*random.Float64() - 1, 2*random.Float64() - 1} })
}

// bend moves the pixels; extra is called once a pixel, row by row, for the
// direction of its noise.
func (w *warp) bend(dst, src []byte, extra func() vector) {
	width, height := float64(w.shape.Width), float64(w.shape.Height)
	for i, from := range w.from {
		e := extra()
		x := edge(from[0]+w.noise*e[0]/width) * (width - 1) / 2
		y := edge(from[1]+w.noise*e[1]/height) * (height - 1) / 2
		w.mix(dst[i*w.shape.Channels:], src, x, y)
	}
}

// edge cuts a position to −1…1 and counts it from the first pixel, 0…2.
func edge(p float64) float64 { return min(max(p, -1), 1) + 1 }

// mix writes one pixel: src at (x, y), in pixels, interpolated bilinearly.
func (w *warp) mix(dst, src []byte, x, y float64) {
	left, top := int(x), int(y)
	right, bottom := min(left+1, w.shape.Width-1), min(top+1, w.shape.Height-1)
	dx, dy := x-float64(left), y-float64(top)
	at := func(row, column, c int) float64 {
		return float64(src[(row*w.shape.Width+column)*w.shape.Channels+c])
	}
	for c := range w.shape.Channels {
		upper := (1-dx)*at(top, left, c) + dx*at(top, right, c)
		lower := (1-dx)*at(bottom, left, c) + dx*at(bottom, right, c)
		dst[c] = toByte((1-dy)*upper + dy*lower)
	}
}
