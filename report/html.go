package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"time"

	"cordon/internal/atomicfile"
	"cordon/internal/printable"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

//go:embed template.html
var templateText string

// page is what the template sees.
type page struct {
	*Report
	Suspects, Retained []picture
	PoisonedSuspects   int
	Triggered          template.URL // empty without a trigger
	LossCharts         []*chart
	RankingCharts      []*chart
	TrainingCharts     []*chart
}

// WriteHTML writes the report as one self-contained page: no scripts, nothing
// fetched, pictures and charts inside. v may be empty; then the page has no
// pictures. The file appears complete or not at all.
func WriteHTML(path string, r *Report, v Evidence) error {
	if err := v.check(); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	t, err := template.New("report").Funcs(functions()).Parse(templateText)
	if err != nil {
		return fmt.Errorf("report template: %w", err)
	}
	p, err := newPage(r, v)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error { return t.Execute(w, p) })
}

func functions() template.FuncMap {
	return template.FuncMap{
		"count":   func(n int) string { return grouped(int64(n)) },
		"count64": grouped,
		"fixed":   func(decimals int, n Number) string { return n.fixed(decimals) },
		"short":   func(n Number) string { return shortest(n, 4) },
		"share":   fixed4,
		"number":  func(index int) int { return index + 1 },
		"ratio":   func(n, all int) string { return ratio(n, all).fixed(4) },
		"percent": Number.percent,
		"text":    printable.Line,
		"listing": printable.Text,
		"time":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") },
		"triggered": func(all []Model) bool {
			return slices.ContainsFunc(all, func(m Model) bool { return m.ASR != nil || m.RA != nil || m.Floor != nil })
		},
	}
}

// Headline says in one sentence what the run did, without a verdict.
func (p *page) Headline() string {
	s := fmt.Sprintf("%s of the samples isolated", p.Isolation.Rate.percent())
	if len(p.Suspects) > 0 {
		s += "; here is what they look like"
	}
	return s
}

// Duration is the time from start to end of the run.
func (p *page) Duration() string {
	return p.Finished.Sub(p.Started).Round(time.Second).String()
}

// TotalSeconds is the time of all stages.
func (p *page) TotalSeconds() Number {
	var total Number
	for _, s := range p.Stages {
		total += s.Seconds
	}
	return total
}

// PeakMiB is the largest resident memory.
func (p *page) PeakMiB() int64 { return p.Machine.PeakResident >> 20 }

// Repaired tells whether the run made an M_c.
func (p *page) Repaired() bool {
	return slices.ContainsFunc(p.Models, func(m Model) bool { return m.Name == "M_c" })
}

// Target is what the poison aims at.
func (p *page) Target() string { return printable.Line(p.target()) }

// ClassName is the class that a part of it aims at.
func (p *page) ClassName(target int) string { return printable.Line(p.className(target)) }

// RankedBy says in words what the isolation order is.
func (p *page) RankedBy() string {
	model := map[string]string{"partial": "M′", "base": "M_s"}[p.Isolation.Model]
	if model == "" {
		model = printable.Line(p.Isolation.Model)
	}
	if p.Isolation.Epoch > 0 {
		model = fmt.Sprintf("%s after its epoch %d", model, p.Isolation.Epoch)
	}
	switch p.Isolation.Ranking {
	case "loss":
		return "the lowest loss under " + model
	case "high-loss":
		return "the highest loss under " + model
	case "gap":
		return "the gap between the losses under M_s and M′"
	}
	return printable.Line(p.Isolation.Ranking)
}

func newPage(r *Report, v Evidence) (*page, error) {
	p := &page{Report: r}
	if v.Triggered != nil {
		p.Triggered = embedded(v.Triggered)
	}
	var err error
	if p.Suspects, err = v.pictures(v.suspects()); err != nil {
		return nil, err
	}
	for _, s := range p.Suspects {
		if s.Poisoned {
			p.PoisonedSuspects++
		}
	}
	if p.Retained, err = v.pictures(v.retained(r.Seed)); err != nil {
		return nil, err
	}
	if p.LossCharts, err = lossCharts(r); err != nil {
		return nil, err
	}
	if p.RankingCharts, err = rankingCharts(r, v); err != nil {
		return nil, err
	}
	p.TrainingCharts, err = trainingCharts(r)
	return p, err
}

// collect drops the charts that have nothing to show.
func collect(charts ...*chart) []*chart {
	return slices.DeleteFunc(charts, func(c *chart) bool { return c == nil })
}

func lossCharts(r *Report) ([]*chart, error) {
	var thresholds [2]*Number
	if r.Isolation.Model == "base" {
		thresholds[1] = r.Isolation.Threshold
	} else {
		thresholds[0] = r.Isolation.Threshold
	}
	first, err := lossChart("Losses under the partial model M′", r.Losses.Partial, thresholds[0])
	if err != nil {
		return nil, err
	}
	second, err := lossChart("Losses under the base model M_s", r.Losses.Base, thresholds[1])
	return collect(first, second), err
}

// lossChart draws a histogram; with truth the poisoned and the clean samples
// each as shares of their own number, since there are far fewer of the first.
func lossChart(title string, h *Histogram, threshold *Number) (*chart, error) {
	if h == nil {
		return nil, nil
	}
	var all []series
	if h.Poisoned == nil {
		all = []series{histogramSeries("training samples", h, h.Counts, blue)}
	} else {
		clean := slices.Clone(h.Counts)
		for i, n := range h.Poisoned {
			clean[i] -= n
		}
		all = []series{
			histogramSeries("clean", h, clean, blue),
			histogramSeries("poisoned", h, h.Poisoned, vermillion),
		}
	}
	if threshold != nil && *threshold > 0 {
		x := math.Log10(float64(*threshold))
		all = append(all, series{name: "isolation threshold", paint: grey, dashed: true,
			points: plotter.XYs{{X: x, Y: 0}, {X: x, Y: highest(all)}}})
	}
	p := newPlot("cross-entropy, nats (logarithmic)", "% of the group in each bin")
	p.X.Tick.Marker = plot.TickerFunc(decadeTicks)
	p.Y.Min = 0
	c, err := lineChart(title, p, all...)
	if c != nil && h.NotFinite > 0 {
		c.Note = fmt.Sprintf("%s losses are not finite and not shown.", grouped(int64(h.NotFinite)))
	}
	return c, err
}

// histogramSeries draws counts as steps, without the empty bins at both ends.
func histogramSeries(name string, h *Histogram, counts []int, c paint) series {
	total := 0
	first, last := -1, -1
	for i, n := range counts {
		total += n
		if n > 0 {
			last = i
			if first < 0 {
				first = i
			}
		}
	}
	s := series{name: fmt.Sprintf("%s (%s)", name, grouped(int64(total))), paint: c, fill: true}
	if total <= 0 || first < 0 {
		return s
	}
	edge := func(i int) float64 { return math.Log10(float64(h.Edges[i])) }
	s.points = append(s.points, plotter.XY{X: edge(first)})
	for i := first; i <= last; i++ {
		y := 100 * float64(counts[i]) / float64(total)
		s.points = append(s.points, plotter.XY{X: edge(i), Y: y}, plotter.XY{X: edge(i + 1), Y: y})
	}
	s.points = append(s.points, plotter.XY{X: edge(last + 1)})
	return s
}

func highest(all []series) float64 {
	top := 0.0
	for _, s := range all {
		for _, q := range s.points {
			top = math.Max(top, q.Y)
		}
	}
	return top
}

func rankingCharts(r *Report, v Evidence) ([]*chart, error) {
	recall, err := recallChart(r, v)
	if err != nil {
		return nil, err
	}
	found, err := foundChart(r)
	if err != nil {
		return nil, err
	}
	apart, err := apartChart(r)
	if err != nil {
		return nil, err
	}
	classes, err := classChart(r)
	return collect(recall, found, apart, classes), err
}

// recallChart shows how much of the poison any isolation rate would catch.
func recallChart(r *Report, v Evidence) (*chart, error) {
	if v.Poisoned == nil {
		return nil, nil
	}
	all := []series{
		{name: "lowest loss under M′", points: recallCurve(byLoss(v.PartialLoss), v.Poisoned), paint: blue},
		{name: "lowest loss under M_s", points: recallCurve(byLoss(v.BaseLoss), v.Poisoned), paint: vermillion, dashed: true},
	}
	if r.Isolation.Ranking != "loss" {
		all = append(all, series{name: "ranking used", points: recallCurve(v.Order, v.Poisoned), paint: green})
	}
	if highest(all) == 0 {
		return nil, nil
	}
	rate := 100 * float64(r.Isolation.Rate)
	all = append(all,
		series{name: "random order", points: plotter.XYs{{X: 0, Y: 0}, {X: 100, Y: 100}}, paint: grey},
		series{name: fmt.Sprintf("isolated here (%s)", r.Isolation.Rate.percent()), paint: grey, dashed: true,
			points: plotter.XYs{{X: rate, Y: 0}, {X: rate, Y: 100}}})
	return lineChart("Poison found against samples isolated",
		newPlot("samples isolated, %", "recall of the poison, %"), all...)
}

// foundChart shows after which epoch the losses find the poison best.
func foundChart(r *Report) (*chart, error) {
	if r.Truth == nil {
		return nil, nil
	}
	paints := []paint{blue, vermillion, green}
	var all []series
	for i, k := range r.Truth.Rankings[:min(len(r.Truth.Rankings), len(paints))] {
		s := series{name: clip(k.Name, 40), paint: paints[i], dashed: i > 0, marks: true}
		for _, e := range k.Epochs {
			s.points = append(s.points, plotter.XY{X: float64(e.Epoch), Y: 100 * float64(e.Recall)})
		}
		all = append(all, s)
	}
	p := epochPlot("recall of the poison, %")
	p.Y.Min, p.Y.Max = 0, 100
	return lineChart(fmt.Sprintf("Poison among the %s isolated, by epoch", r.Isolation.Rate.percent()), p, all...)
}

// apartChart shows the mean losses of the poisoned and of the other samples: which
// of them a model learns first.
func apartChart(r *Report) (*chart, error) {
	if r.Truth == nil {
		return nil, nil
	}
	paints := []paint{blue, vermillion, green}
	var all []series
	for i, k := range r.Truth.Rankings[:min(len(r.Truth.Rankings), len(paints))] {
		poisoned := series{name: "poisoned, " + clip(k.Name, 40), paint: paints[i], marks: true}
		others := series{name: "all others, " + clip(k.Name, 40), paint: paints[i], marks: true, dashed: true}
		for _, e := range k.Epochs {
			x := float64(e.Epoch)
			poisoned.points = append(poisoned.points, plotter.XY{X: x, Y: float64(e.PoisonedLoss)})
			others.points = append(others.points, plotter.XY{X: x, Y: float64(e.OtherLoss)})
		}
		all = append(all, poisoned, others)
	}
	p := epochPlot("mean loss, nats")
	p.Y.Min = 0
	return lineChart("Loss of the poison, by epoch", p, all...)
}

// shownClasses is how many classes the class chart has room for.
const shownClasses = 12

// classChart compares each class's share of D_s with its share of the data.
func classChart(r *Report) (*chart, error) {
	isolated, data := shares(r.Isolation.ClassCounts), shares(r.Data.ClassCounts)
	if isolated == nil || data == nil {
		return nil, nil
	}
	order := make([]int, len(data))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(isolated[b]-data[b], isolated[a]-data[a])
	})
	order = order[:min(len(order), shownClasses)]
	in := series{name: "share of the isolated samples", paint: vermillion}
	of := series{name: "share of all samples", paint: grey}
	var names []string
	for _, k := range order {
		names = append(names, clip(r.Data.Classes[k], 16))
		in.points = append(in.points, plotter.XY{Y: isolated[k]})
		of.points = append(of.points, plotter.XY{Y: data[k]})
	}
	c, err := barChart("Which classes were isolated", newPlot("% of the samples", ""), names, in, of)
	if c != nil && len(data) > shownClasses {
		c.Note = fmt.Sprintf("The %d of %d classes with the largest excess.", shownClasses, len(data))
	}
	return c, err
}

// shares turns counts into per cent of their sum; nil where that is nothing.
func shares(counts []int) []float64 {
	total := 0
	for _, n := range counts {
		if n < 0 {
			return nil
		}
		total += n
	}
	if total <= 0 {
		return nil
	}
	all := make([]float64, len(counts))
	for i, n := range counts {
		all[i] = 100 * float64(n) / float64(total)
	}
	return all
}

func trainingCharts(r *Report) ([]*chart, error) {
	paints := []paint{blue, vermillion, green}
	var loss, accuracy []series
	for i, c := range r.Curves[:min(len(r.Curves), len(paints))] {
		name := clip(c.Stage, 24)
		l := series{name: name, paint: paints[i], marks: true}
		train := series{name: name + ", training", paint: paints[i], marks: true}
		test := series{name: name + ", test", paint: paints[i], marks: true, dashed: true}
		for _, e := range c.Epochs {
			x := float64(e.Epoch)
			l.points = append(l.points, plotter.XY{X: x, Y: float64(e.Loss)})
			train.points = append(train.points, plotter.XY{X: x, Y: 100 * float64(e.TrainAccuracy)})
			if e.TestAccuracy != nil {
				test.points = append(test.points, plotter.XY{X: x, Y: 100 * float64(*e.TestAccuracy)})
			}
		}
		loss = append(loss, l)
		accuracy = append(accuracy, train, test)
	}
	p := epochPlot("training loss, nats")
	p.Y.Min = 0
	first, err := lineChart("Loss by epoch", p, loss...)
	if err != nil {
		return nil, err
	}
	second, err := lineChart("Accuracy by epoch", epochPlot("accuracy, %"), accuracy...)
	return collect(first, second), err
}
