package evaluation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/defense"
	"cordon/internal/isolate"
	"cordon/internal/metric"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/rundir"
	"cordon/internal/train"
	"cordon/report"
)

// run is a finished run with its data.
type run struct {
	dir       *rundir.Dir
	recipe    recipe.Recipe
	report    *report.Report
	set       *dataset.Set // D
	positions []int        // of D's samples in the training split
	losses    isolate.Evidence
}

// Run evaluates every model of a finished run on the test images, if there are
// any, in the run's own precision, and, with truth, the isolation. It puts the
// figures into the run's report in place of those of an earlier evaluation, and
// returns it.
func Run(ctx context.Context, path string, opt Options) (*report.Report, error) {
	r, err := load(ctx, path, opt)
	if err != nil {
		return nil, err
	}
	changed, err := r.changed(opt.Truth)
	if err == nil && opt.Truth != nil {
		err = fits(opt.Truth, opt.Train)
	}
	if err != nil {
		return nil, err
	}
	poisoned := changed.poisoned(r.set.Len())
	if err := r.models(ctx, opt); err != nil {
		return nil, err
	}
	division, err := isolate.Divide(r.recipe.Isolate, r.losses)
	if err != nil {
		return nil, err
	}
	r.report.Truth = nil
	if opt.Truth != nil {
		if r.report.Truth, err = r.truth(changed, poisoned, division); err != nil {
			return nil, err
		}
	}
	picture, err := triggeredPicture(opt)
	if err != nil {
		return nil, err
	}
	return r.report, r.write(division, poisoned, picture)
}

// has reports whether a set has the fingerprint.
func has(ctx context.Context, set *dataset.Set, fingerprint string) (bool, error) {
	got, err := set.Fingerprint(ctx)
	return got == fingerprint, err
}

// load reads a finished run and checks that the data is the run's.
func load(ctx context.Context, path string, opt Options) (*run, error) {
	dir, manifest, err := rundir.Finished(path)
	if err != nil {
		return nil, err
	}
	if opt.Train == nil {
		return nil, errors.New("no training images to evaluate a run on")
	}
	if same, err := has(ctx, opt.Train, manifest.Fingerprint); err != nil {
		return nil, err
	} else if !same {
		return nil, fmt.Errorf("%s was made from other training data (%s)", path, manifest.Data)
	}
	if opt.Test != nil && manifest.TestFingerprint != "" {
		if same, err := has(ctx, opt.Test, manifest.TestFingerprint); err != nil {
			return nil, err
		} else if !same {
			return nil, fmt.Errorf("%s was tested on other test data (%s)", path, manifest.Data)
		}
	}
	r := &run{dir: dir}
	if r.recipe, err = recipe.Read(dir.Path(rundir.RecipeFile)); err != nil {
		return nil, err
	}
	if r.report, err = report.Read(dir.Path(rundir.ReportJSON)); err != nil {
		return nil, err
	}
	r.set, r.positions = train.Sample(opt.Train, r.recipe)
	r.losses.Labels = r.set.Labels
	if r.losses.Base, err = dir.ReadScores(rundir.Base, r.recipe.Base.Epochs, r.set.Len()); err != nil {
		return nil, err
	}
	r.losses.Partial, err = dir.ReadScores(rundir.Partial, r.recipe.Partial.Epochs, r.set.Len())
	return r, err
}

// changes are the changed samples of D.
type changes struct {
	truth   *attack.Truth
	samples map[int]attack.Changed // by the index in D
}

// fits refuses a truth that contradicts the training set whose fingerprint it has.
func fits(truth *attack.Truth, train *dataset.Set) error {
	if truth.Samples != train.Len() || !slices.Equal(truth.Classes, train.Classes) {
		return errors.New("the truth file is about a data set of other size or classes")
	}
	for _, c := range truth.Changed {
		if train.Labels[c.Index] != c.Given {
			return fmt.Errorf("the truth file says label %d of sample %d, which has %d", c.Given, c.Index, train.Labels[c.Index])
		}
	}
	return nil
}

// changed finds the samples that the truth lists in D; nil without truth.
func (r *run) changed(truth *attack.Truth) (*changes, error) {
	if truth == nil {
		return nil, nil
	}
	if truth.Poisoned != r.report.Data.Fingerprint {
		return nil, fmt.Errorf("the truth file is about other training data than the run's")
	}
	inSplit := make(map[int]attack.Changed, len(truth.Changed))
	for _, c := range truth.Changed {
		inSplit[c.Index] = c
	}
	out := &changes{truth, map[int]attack.Changed{}}
	for i, position := range r.positions {
		if c, ok := inSplit[position]; ok {
			out.samples[i] = c
		}
	}
	return out, nil
}

// poisoned marks the poisoned samples of n in D, all parts together; covers are
// not poisoned. Nil without truth.
func (c *changes) poisoned(n int) []bool {
	if c == nil {
		return nil
	}
	return c.mark(n, func(s attack.Changed) bool { return s.Role == attack.Poisoned })
}

func (c *changes) mark(n int, wanted func(attack.Changed) bool) []bool {
	out := make([]bool, n)
	for i, s := range c.samples {
		out[i] = wanted(s)
	}
	return out
}

// models evaluates every model of the run. Without test images what is known
// without the truth stays.
func (r *run) models(ctx context.Context, opt Options) error {
	if opt.Test == nil {
		for i, m := range r.report.Models {
			r.report.Models[i] = report.Model{Name: m.Name, File: m.File, ACC: m.ACC}
		}
		return nil
	}
	r.report.Models = nil
	return with(ctx, opt, func(e *evaluator) error {
		for _, c := range defense.Models(r.recipe) {
			row, err := r.model(ctx, e, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			r.report.Models = append(r.report.Models, row)
		}
		return nil
	})
}

func (r *run) model(ctx context.Context, e *evaluator, c defense.ModelFiles) (report.Model, error) {
	row := report.Model{Name: c.Name, File: c.Weights}
	m, d, err := nn.Load(e.engine, r.dir.Path(c.Weights), e.device, r.recipe.Model.Precision == "bf16")
	if err != nil {
		return row, err
	}
	defer m.Close()
	if c.Norms != "" {
		if err := nn.LoadNorms(r.dir.Path(c.Norms), m); err != nil {
			return row, err
		}
	}
	err = e.measure(ctx, m, d, &row)
	return row, err
}

// truth measures the run's ranking, and the ranking of the other model's losses
// beside it.
func (r *run) truth(changed *changes, poisoned []bool, division isolate.Division) (*report.Truth, error) {
	out := &report.Truth{Target: -1}
	parts, err := r.parts(changed, division)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range parts {
		names = append(names, p.Attack)
		out.Poisoned += p.Poisoned
		out.Covers += p.Covers
	}
	out.Attack = strings.Join(names, " + ")
	switch {
	case len(parts) == 0:
		out.Attack = attack.NoTrigger
	case len(parts) == 1:
		out.Target = parts[0].Target
	}
	if len(parts) > 1 || out.Covers > 0 {
		out.Parts = parts
	}
	out.PoisonRate = report.Number(float64(out.Poisoned) / float64(len(poisoned)))
	if out.Poisoned == 0 || out.Poisoned == len(poisoned) {
		return out, nil // no ranking can be measured
	}
	for _, model := range r.rankedModels() {
		ranking, err := r.ranking(model, poisoned)
		if err != nil {
			return nil, err
		}
		out.Rankings = append(out.Rankings, *ranking)
	}
	return out, nil
}

// parts counts the samples of each part, and of them the isolated ones.
func (r *run) parts(changed *changes, division isolate.Division) ([]report.Part, error) {
	var parts []report.Part
	for k, p := range changed.truth.Parts {
		out := report.Part{Attack: p.String(), Target: p.Target}
		poisoned := changed.mark(r.set.Len(), func(c attack.Changed) bool { return c.Part == k && c.Role == attack.Poisoned })
		covers := changed.mark(r.set.Len(), func(c attack.Changed) bool { return c.Part == k && c.Role == attack.Cover })
		out.Poisoned, out.Isolated = count(poisoned, division.Isolated)
		out.Covers, out.IsolatedCovers = count(covers, division.Isolated)
		if out.Poisoned > 0 && out.Poisoned < r.set.Len() {
			m, err := metric.MeasureIsolation(division.Scores, division.Isolated, poisoned)
			if err != nil {
				return nil, err
			}
			out.AUROC = report.Of(m.AUROC)
		}
		parts = append(parts, out)
	}
	return parts, nil
}

// count returns how many samples are marked, and how many of those listed.
func count(marked []bool, listed []int) (all, of int) {
	for _, m := range marked {
		if m {
			all++
		}
	}
	for _, i := range listed {
		if marked[i] {
			of++
		}
	}
	return all, of
}

// rankedModels starts with the model whose losses D_s was taken by; the other
// is there for comparison. The gap between both has no other.
func (r *run) rankedModels() []string {
	switch {
	case r.recipe.Isolate.Ranking == "gap":
		return []string{gap}
	case r.recipe.Isolate.Model == rundir.Base:
		return []string{rundir.Base, rundir.Partial}
	}
	return []string{rundir.Partial, rundir.Base}
}

const gap = "gap"

// modelNames are the models as people read them.
var modelNames = map[string]string{rundir.Partial: "under M′", rundir.Base: "under M_s", gap: "M_s − M′"}

// ranking measures the run's way of isolating with the losses of one model.
func (r *run) ranking(model string, poisoned []bool) (*report.Ranking, error) {
	o := r.recipe.Isolate
	if model != gap {
		o.Model = model
	}
	division, err := isolate.Divide(o, r.losses)
	if err != nil {
		return nil, err
	}
	m, err := metric.MeasureIsolation(division.Scores, division.Isolated, poisoned)
	if err != nil {
		return nil, err
	}
	out := &report.Ranking{
		Name: modelNames[model], Isolated: hit(m.Set),
		AUROC: report.Number(m.AUROC), AUPRC: report.Number(m.AUPRC),
	}
	for _, c := range m.Cuts {
		out.Rates = append(out.Rates, hit(c))
	}
	if model != gap {
		out.Epochs, err = r.epochs(o, poisoned)
	}
	return out, err
}

// epochs measures the ranking by the losses of each recorded epoch alone.
func (r *run) epochs(o recipe.Isolate, poisoned []bool) ([]report.EpochFound, error) {
	o.Epochs = "last"
	rows := r.losses.Partial
	if o.Model == rundir.Base {
		rows = r.losses.Base
	}
	var out []report.EpochFound
	for i, row := range rows {
		if row == nil {
			continue
		}
		one := isolate.Evidence{Labels: r.losses.Labels, Base: [][]float32{row}, Partial: [][]float32{row}}
		division, err := isolate.Divide(o, one)
		if err != nil {
			return nil, err
		}
		m, err := metric.MeasureIsolation(division.Scores, division.Isolated, poisoned)
		if err != nil {
			return nil, err
		}
		of, others := means(row, poisoned)
		out = append(out, report.EpochFound{
			Epoch: i + 1, Recall: report.Number(m.Set.Recall), AUROC: report.Number(m.AUROC), PoisonedLoss: of, OtherLoss: others,
		})
	}
	return out, nil
}

// means averages the losses of the poisoned and of the other samples.
func means(losses []float32, poisoned []bool) (of, others report.Number) {
	var sums, counts [2]float64
	for i, loss := range losses {
		k := 1
		if poisoned[i] {
			k = 0
		}
		sums[k] += float64(loss)
		counts[k]++
	}
	return report.Number(sums[0] / counts[0]), report.Number(sums[1] / counts[1])
}

func hit(c metric.Cut) report.Hit {
	return report.Hit{
		Rate: report.Number(c.Fraction), Count: c.Isolated, Precision: report.Number(c.Precision),
		Ceiling: report.Number(c.Ceiling), Recall: report.Number(c.Recall), Lift: report.Number(c.Lift),
	}
}

// triggeredPicture shows test images with the triggers; nil where there are none.
func triggeredPicture(opt Options) ([]byte, error) {
	if opt.Test == nil {
		return nil, nil
	}
	all, err := triggers(opt.Test, opt.Truth)
	if err != nil || !slices.ContainsFunc(all, func(t attack.Trigger) bool { return t != nil }) {
		return nil, err
	}
	var png bytes.Buffer
	err = attack.PreviewTest(&png, opt.Test, opt.Truth.Parts, all)
	return png.Bytes(), err
}

// write stores the report with the figures that were added.
func (r *run) write(division isolate.Division, poisoned []bool, triggered []byte) error {
	choice := r.recipe.Isolate.Epochs
	base := r.losses.Base[isolate.Epoch(choice, r.losses.Base)-1]
	partial := r.losses.Partial[isolate.Epoch(choice, r.losses.Partial)-1]
	r.report.Losses = report.Losses{
		Base: report.NewHistogram(base, poisoned), Partial: report.NewHistogram(partial, poisoned),
	}
	evidence := report.Evidence{
		Set: r.set, Source: r.positions, BaseLoss: base, PartialLoss: partial,
		Order: isolate.Order(division.Scores), Isolated: division.Isolated, Poisoned: poisoned,
		Triggered: triggered,
	}
	if err := report.WriteHTML(r.dir.Path(rundir.ReportHTML), r.report, evidence); err != nil {
		return err
	}
	return r.report.Write(r.dir.Path(rundir.ReportJSON))
}
