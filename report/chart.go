package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"

	"cordon/internal/printable"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Charts are drawn once, at a size that is still readable when a phone shrinks
// them to its width.
const (
	chartWidth  = 380 * vg.Length(1)
	chartHeight = 250 * vg.Length(1)
)

// Okabe & Ito's palette: told apart with any colour vision, visible on white
// and on black. Text and axes are black here and follow the page by CSS.
var (
	blue       = paint{"blue", color.NRGBA{0x00, 0x72, 0xb2, 0xff}}
	vermillion = paint{"vermillion", color.NRGBA{0xd5, 0x5e, 0x00, 0xff}}
	green      = paint{"green", color.NRGBA{0x00, 0x9e, 0x73, 0xff}}
	grey       = paint{"grey", color.NRGBA{0x80, 0x80, 0x80, 0xff}}
)

// paint is a colour of the charts and the style sheet's class for it.
type paint struct {
	class string
	color color.NRGBA
}

// series is one line, or one row of bars, of a chart.
type series struct {
	name   string // for the legend; empty leaves it out
	points plotter.XYs
	paint  paint
	dashed bool
	marks  bool // a dot at every point
	fill   bool // the area below, lightly
}

// chart is a figure of the page. Its legend is HTML: there it cannot hide data.
type chart struct {
	Title, Note string
	Legend      []key
	SVG         template.HTML
}

// key is one entry of a legend.
type key struct {
	Name, Class string
	Dashed      bool
}

func legend(all []series) []key {
	var keys []key
	for _, s := range all {
		if s.name != "" && len(s.points) > 0 {
			keys = append(keys, key{printable.Line(s.name), s.paint.class, s.dashed})
		}
	}
	return keys
}

// newPlot returns an empty plot in the style of the report.
func newPlot(x, y string) *plot.Plot {
	face := font.Font{Typeface: "Liberation", Variant: "Sans", Size: 12}
	p := plot.New()
	p.BackgroundColor = nil // the page's
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font = face
		a.Tick.Label.Font = face
		a.Tick.Length = 4
		a.Tick.Marker = plot.TickerFunc(ticks)
		a.Padding = 0
	}
	p.X.Label.Padding, p.Y.Label.Padding = 3, 3
	return p
}

// epochPlot is newPlot over the epochs.
func epochPlot(y string) *plot.Plot {
	p := newPlot("epoch", y)
	p.X.Tick.Marker = plot.TickerFunc(wholeTicks)
	return p
}

// lineChart draws series over shared axes. Points that cannot be drawn are left
// out; with none at all there is no chart.
func lineChart(title string, p *plot.Plot, all ...series) (*chart, error) {
	empty := true
	for i := range all {
		all[i].points = drawable(all[i].points)
		if len(all[i].points) == 0 {
			continue
		}
		empty = false
		if err := addSeries(p, all[i]); err != nil {
			return nil, fmt.Errorf("chart %q: %w", title, err)
		}
	}
	if empty {
		return nil, nil
	}
	return render(title, p, chartHeight, all)
}

func addSeries(p *plot.Plot, s series) error {
	if s.fill {
		area, err := plotter.NewPolygon(underneath(s.points))
		if err != nil {
			return err
		}
		light := s.paint.color
		light.A = 0x40
		area.Color = light
		area.LineStyle.Width = 0
		p.Add(area)
	}
	line, err := plotter.NewLine(s.points)
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: s.paint.color, Width: 1.8}
	if s.dashed {
		line.Dashes = []vg.Length{5, 3}
	}
	p.Add(line)
	if s.marks {
		dots, err := plotter.NewScatter(s.points)
		if err != nil {
			return err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: s.paint.color, Radius: 2.5, Shape: draw.CircleGlyph{}}
		p.Add(dots)
	}
	return nil
}

// barChart draws two horizontal bars per name, the first name on top.
func barChart(title string, p *plot.Plot, names []string, first, second series) (*chart, error) {
	n := len(names)
	if n == 0 {
		return nil, nil
	}
	both := []series{first, second}
	for i, s := range both {
		values := make(plotter.Values, n)
		for k, v := range s.points {
			values[n-1-k] = v.Y
		}
		bar, err := plotter.NewBarChart(values, 9)
		if err != nil {
			return nil, fmt.Errorf("chart %q: %w", title, err)
		}
		bar.Horizontal = true
		bar.Color, bar.LineStyle.Width = s.paint.color, 0
		bar.Offset = vg.Length(5 - 10*i)
		p.Add(bar)
	}
	upward := slices.Clone(names)
	slices.Reverse(upward)
	p.NominalY(upward...)
	p.Y.Tick.Length = 0
	p.X.Min = 0
	return render(title, p, vg.Length(50+26*n), both)
}

// render writes the plot as an svg element that scales with the page.
func render(title string, p *plot.Plot, height vg.Length, all []series) (*chart, error) {
	c := vgsvg.New(chartWidth, height)
	p.Draw(draw.Crop(draw.New(c), 0, -12, 0, -7)) // room for the outer half of the last labels
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("chart %q: %w", title, err)
	}
	// The XML prologue has no place inside HTML, and the element's own size in
	// points would keep it from scaling.
	_, body, found := bytes.Cut(b.Bytes(), []byte("<svg"))
	if found {
		_, body, found = bytes.Cut(body, []byte(">"))
	}
	if !found {
		return nil, fmt.Errorf("chart %q: no svg element in %d bytes", title, b.Len())
	}
	svg := fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">%s`,
		chartWidth.Points(), height.Points(), template.HTMLEscapeString(title), body)
	return &chart{Title: title, Legend: legend(all), SVG: template.HTML(svg)}, nil
}

// drawable drops the points that have no place on a chart.
func drawable(all plotter.XYs) plotter.XYs {
	const limit = 1e9
	var kept plotter.XYs
	for _, q := range all {
		if math.Abs(q.X) < limit && math.Abs(q.Y) < limit { // false for NaN
			kept = append(kept, q)
		}
	}
	return kept
}

// underneath closes a line down to the x axis.
func underneath(points plotter.XYs) plotter.XYs {
	first, last := points[0].X, points[len(points)-1].X
	area := plotter.XYs{{X: first, Y: 0}}
	area = append(area, points...)
	return append(area, plotter.XY{X: last, Y: 0})
}

// ticks puts about four labels at round values.
func ticks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/3)))
	for _, f := range []float64{5, 2} {
		if (high-low)/(step*f) >= 3 {
			step *= f
			break
		}
	}
	return ticksAt(low, high, step)
}

// wholeTicks is ticks without fractions, for counts.
func wholeTicks(low, high float64) []plot.Tick {
	return ticksAt(low, high, max(1, math.Ceil((high-low)/6)))
}

func ticksAt(low, high, step float64) []plot.Tick {
	var all []plot.Tick
	first := math.Ceil(low / step)
	for i := range 16 { // a bound that rounding cannot break
		v := (first + float64(i)) * step
		if !(v <= high+step/1e6) {
			break
		}
		label := strconv.FormatFloat(v, 'g', 4, 64)
		if v == 0 {
			label = "0" // never -0
		}
		all = append(all, plot.Tick{Value: v, Label: label})
	}
	return all
}

// decadeTicks labels an axis of decimal logarithms with the numbers themselves.
func decadeTicks(low, high float64) []plot.Tick {
	var all []plot.Tick
	step := math.Max(1, math.Ceil((high-low)/5))
	for e := math.Ceil(low); e <= high; e += step {
		all = append(all, plot.Tick{Value: e, Label: strconv.FormatFloat(math.Pow(10, e), 'g', 4, 64)})
	}
	return all
}
