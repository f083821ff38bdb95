package report

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"math"
	"slices"

	"cordon/dataset"
	"cordon/internal/printable"
	"cordon/internal/seed"

	"golang.org/x/image/draw"
	"gonum.org/v1/plot/plotter"
)

// Evidence is what the page shows and JSON does not hold: the training samples
// themselves. All indices and all per-sample slices refer to Set. Whatever is
// nil is left out of the page.
type Evidence struct {
	Set *dataset.Set // the training samples used
	// Source holds each sample's position in the whole training split where
	// Set is a part of it.
	Source      []int
	PartialLoss []float32 // per sample, under M′
	BaseLoss    []float32 // per sample, under M_s
	Order       []int     // samples, most suspicious first
	Isolated    []int     // the samples of D_s
	Poisoned    []bool    // per sample; nil without truth
	// Triggered is a PNG of test images without and with the trigger; nil
	// without truth or trigger.
	Triggered []byte
}

// check refuses evidence whose parts do not belong together.
func (v Evidence) check() error {
	n := v.samples()
	for name, length := range map[string]int{
		"positions": len(v.Source), "losses under M′": len(v.PartialLoss),
		"losses under M_s": len(v.BaseLoss), "poison marks": len(v.Poisoned),
	} {
		if length != 0 && length != n {
			return fmt.Errorf("evidence: %d %s for %d samples", length, name, n)
		}
	}
	for _, i := range slices.Concat(v.Order, v.Isolated) {
		if i < 0 || i >= n {
			return fmt.Errorf("evidence: sample %d of %d", i, n)
		}
	}
	if v.Set == nil {
		return nil
	}
	if v.Set.Channels != 1 && v.Set.Channels != 3 {
		return fmt.Errorf("evidence: images of %d channels", v.Set.Channels)
	}
	if err := v.Set.CheckPixels(); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

func (v Evidence) samples() int {
	if v.Set != nil {
		return v.Set.Len()
	}
	return max(len(v.PartialLoss), len(v.BaseLoss), len(v.Poisoned), len(v.Order))
}

// picture is one sample of a gallery.
type picture struct {
	Source   template.URL // the image itself, PNG
	Key      string       // file name or position
	Label    string
	Loss     string
	Poisoned bool
}

// gallerySize is the number of pictures in each gallery.
const gallerySize = 48

// suspects returns the most suspicious samples, worst first.
func (v Evidence) suspects() []int {
	return v.Order[:min(len(v.Order), gallerySize)]
}

// retained returns random samples of D_c in the order of the set.
func (v Evidence) retained(runSeed uint64) []int {
	isolated := make([]bool, v.samples())
	for _, i := range v.Isolated {
		isolated[i] = true
	}
	var rest []int
	for i, out := range isolated {
		if !out {
			rest = append(rest, i)
		}
	}
	random := seed.Stream(runSeed, "report/retained")
	random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	rest = rest[:min(len(rest), gallerySize)]
	slices.Sort(rest)
	return rest
}

func (v Evidence) pictures(indices []int) ([]picture, error) {
	if v.Set == nil {
		return nil, nil
	}
	all := make([]picture, 0, len(indices))
	for _, i := range indices {
		source, err := v.dataURI(i)
		if err != nil {
			return nil, err
		}
		p := picture{Source: source, Key: v.key(i), Label: v.label(i)}
		if v.PartialLoss != nil {
			p.Loss = shortest(Number(v.PartialLoss[i]), 3)
		}
		p.Poisoned = v.Poisoned != nil && v.Poisoned[i]
		all = append(all, p)
	}
	return all, nil
}

// key is what a person finds sample i by: its file, or its position.
func (v Evidence) key(i int) string {
	switch {
	case i < len(v.Set.Files):
		return printable.Line(v.Set.Files[i])
	case v.Source != nil:
		return fmt.Sprintf("#%d", v.Source[i])
	}
	return fmt.Sprintf("#%d", i)
}

func (v Evidence) label(i int) string {
	label := int(v.Set.Labels[i])
	if label < 0 || label >= len(v.Set.Classes) {
		return fmt.Sprint(label)
	}
	return printable.Line(v.Set.Classes[label])
}

// dataURI returns sample i as a PNG inside a URL.
func (v Evidence) dataURI(i int) (template.URL, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, shrunk(v.image(i))); err != nil {
		return "", fmt.Errorf("picture of sample %d: %w", i, err)
	}
	return embedded(b.Bytes()), nil
}

func (v Evidence) image(i int) image.Image {
	s := v.Set
	area := image.Rect(0, 0, s.Width, s.Height)
	pixels := s.Image(i)
	if s.Channels == 1 {
		return &image.Gray{Pix: pixels, Stride: s.Width, Rect: area}
	}
	m := image.NewNRGBA(area)
	for k := range s.Width * s.Height {
		copy(m.Pix[4*k:], pixels[3*k:3*k+3])
		m.Pix[4*k+3] = 0xff
	}
	return m
}

// pictureSide is the most pixels that a picture of a gallery is wide or high: it
// is shown smaller, and a page of whole photographs would be too large to open.
const pictureSide = 128

func shrunk(m image.Image) image.Image {
	size := m.Bounds().Size()
	longest := max(size.X, size.Y)
	if longest <= pictureSide {
		return m
	}
	out := image.NewRGBA(image.Rect(0, 0, max(1, size.X*pictureSide/longest), max(1, size.Y*pictureSide/longest)))
	draw.BiLinear.Scale(out, out.Bounds(), m, m.Bounds(), draw.Src, nil)
	return out
}

// byLoss returns all samples, lowest loss first, those without a number last.
func byLoss(losses []float32) []int {
	order := make([]int, len(losses))
	for i := range order {
		order[i] = i
	}
	key := func(i int) float64 {
		if math.IsNaN(float64(losses[i])) {
			return math.Inf(1)
		}
		return float64(losses[i])
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(key(a), key(b)) })
	return order
}

// recallCurve returns, in per cent, how much of the poison is isolated (Y) if
// this share of the samples (X) is, taken in the given order.
func recallCurve(order []int, poisoned []bool) plotter.XYs {
	total := 0
	for _, p := range poisoned {
		if p {
			total++
		}
	}
	if total == 0 || len(order) == 0 {
		return nil
	}
	const points = 200
	step := max(1, len(order)/points)
	curve := plotter.XYs{{X: 0, Y: 0}}
	found := 0
	for i, k := range order {
		if poisoned[k] {
			found++
		}
		if (i+1)%step == 0 || i+1 == len(order) {
			curve = append(curve, plotter.XY{
				X: 100 * float64(i+1) / float64(len(poisoned)),
				Y: 100 * float64(found) / float64(total),
			})
		}
	}
	return curve
}

// embedded is a PNG as the source of an image.
func embedded(png []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(png))
}
