package cordon

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"cordon/internal/defense"
	"cordon/internal/isolate"
	"cordon/internal/machine"
	"cordon/internal/repair"
	"cordon/internal/rundir"
	"cordon/report"
)

func (c *cleansing) writeRecipe() error {
	return c.dir.Write(rundir.RecipeFile, func(w io.Writer) error {
		_, err := w.Write(c.Recipe.Encode())
		return err
	})
}

// write stores everything that a run leaves beside its models.
func (c *cleansing) write(out *defense.Outcome) (*report.Report, error) {
	if err := c.writeLosses(out); err != nil {
		return nil, err
	}
	if err := c.writeSamples(rundir.IsolatedFile, out, out.Isolated); err != nil {
		return nil, err
	}
	if err := c.writeSamples(rundir.RetainedFile, out, out.Retained); err != nil {
		return nil, err
	}
	r := c.report(out)
	evidence := report.Evidence{
		Set: c.set, Source: c.positions, Order: isolate.Order(out.Scores), Isolated: out.Isolated,
		BaseLoss: c.ranked(out.Base), PartialLoss: c.ranked(out.Partial),
	}
	if err := report.WriteHTML(c.dir.Path(rundir.ReportHTML), r, evidence); err != nil {
		return nil, err
	}
	return r, r.Write(c.dir.Path(rundir.ReportJSON))
}

// ranked picks the epoch whose losses the samples are ranked by.
func (c *cleansing) ranked(epochs [][]float32) []float32 {
	return epochs[isolate.Epoch(c.Recipe.Isolate.Epochs, epochs)-1]
}

// writeLosses writes one row a sample and one column for each model and epoch
// that was scored.
func (c *cleansing) writeLosses(out *defense.Outcome) error {
	header := []string{"sample", "key", "label"}
	var columns [][]float32
	for _, m := range []struct {
		name   string
		epochs [][]float32
	}{{rundir.Base, out.Base}, {rundir.Partial, out.Partial}} {
		for i, losses := range m.epochs {
			if losses != nil {
				header = append(header, fmt.Sprintf("%s_epoch_%d", m.name, i+1))
				columns = append(columns, losses)
			}
		}
	}
	return c.writeCSV(rundir.LossesFile, header, c.set.Len(), func(i int) []string {
		row := c.sample(i)
		for _, losses := range columns {
			row = append(row, strconv.FormatFloat(float64(losses[i]), 'g', -1, 32))
		}
		return row
	})
}

// writeSamples writes a list of samples with their suspicion.
func (c *cleansing) writeSamples(file string, out *defense.Outcome, samples []int) error {
	return c.writeCSV(file, []string{"sample", "key", "label", "suspicion"}, len(samples), func(k int) []string {
		i := samples[k]
		return append(c.sample(i), strconv.FormatFloat(out.Scores[i], 'g', -1, 64))
	})
}

// sample is how every list names a sample: its position in the training split,
// its key and its class.
func (c *cleansing) sample(i int) []string {
	return []string{strconv.Itoa(c.positions[i]), c.set.Key(i), c.set.Classes[c.set.Labels[i]]}
}

func (c *cleansing) writeCSV(file string, header []string, rows int, row func(i int) []string) error {
	return c.dir.Write(file, func(w io.Writer) error {
		out := csv.NewWriter(w)
		out.Write(header)
		for i := range rows {
			out.Write(row(i))
		}
		out.Flush()
		return out.Error()
	})
}

func (c *cleansing) report(out *defense.Outcome) *report.Report {
	cpu := machine.CPU().Model
	r := &report.Report{
		Tool: Version, Started: c.started, Finished: time.Now(),
		Machine: report.Machine{
			CPU: cpu, Threads: c.engine.Info().Threads, Device: c.device.String(), Precision: c.Recipe.Model.Precision, Auto: c.auto,
			Engine: c.engine.Info().Build, Libtorch: c.engine.Info().Torch, PeakResident: machine.PeakResident(),
		},
		Data: report.Data{
			Name: c.Train.Name, Format: c.Train.Format,
			Height: c.Train.Height, Width: c.Train.Width, Channels: c.Train.Channels,
			Classes: c.Train.Classes, ClassCounts: c.set.Counts(),
			Samples: c.set.Len(), SampledFrom: c.Train.Len(), Fingerprint: c.manifest.Fingerprint,
		},
		Recipe:    report.Recipe{TOML: string(c.Recipe.Encode()), Hash: c.Recipe.Hash()},
		Seed:      c.Recipe.Seed,
		Isolation: c.isolation(out),
		Losses: report.Losses{
			Partial: report.NewHistogram(c.ranked(out.Partial), nil),
			Base:    report.NewHistogram(c.ranked(out.Base), nil),
		},
		Limits:    report.Limits(),
		NextSteps: c.nextSteps(),
	}
	if c.Test != nil {
		r.Data.TestSamples = c.Test.Len()
	}
	for _, s := range out.Stages {
		r.Stages = append(r.Stages, stage(s))
		if s.Epochs != nil {
			r.Curves = append(r.Curves, curve(s))
		}
	}
	for _, m := range defense.Models(c.Recipe) {
		row := report.Model{Name: m.Name, File: m.Weights}
		if acc, ok := out.Accuracy[m.Name]; ok {
			row.ACC = report.Of(acc)
		}
		r.Models = append(r.Models, row)
	}
	return r
}

func (c *cleansing) nextSteps() []string {
	look := "Look at the isolated samples below: does a pattern repeat that the retained ones lack?"
	if !repair.Wanted(c.Recipe.Repair) {
		return []string{look, "No clean model was made (repair.method is none): use " + rundir.RetainedFile + " as your training list."}
	}
	return []string{
		look,
		"Compare ACC of M_c with M_s: what did unlearning cost?",
		"Train or deploy with " + rundir.CleanModel + ", or use " + rundir.RetainedFile + " as your training list.",
	}
}

func stage(s defense.Stage) report.Stage {
	out := report.Stage{Name: s.Name, Seconds: report.Number(s.Seconds), Images: s.Images}
	if s.Seconds > 0 {
		out.ImagesPerSecond = report.Number(float64(s.Images) / s.Seconds)
	}
	return out
}

func curve(s defense.Stage) report.Curve {
	c := report.Curve{Stage: s.Name}
	for i, f := range s.Epochs {
		e := report.Epoch{
			Epoch: i + 1, Loss: report.Number(f["loss"]), TrainAccuracy: report.Number(f["accuracy"]),
			LearningRate: report.Number(f["learning_rate"]),
		}
		if acc, ok := f["test_accuracy"]; ok {
			e.TestAccuracy = report.Of(acc)
		}
		c.Epochs = append(c.Epochs, e)
	}
	return c
}

func (c *cleansing) isolation(out *defense.Outcome) report.Isolation {
	o := c.Recipe.Isolate
	iso := report.Isolation{
		Ranking: o.Ranking, Model: o.Model, Scope: o.Scope, Rate: report.Number(o.Rate), Count: len(out.Isolated),
		ClassCounts: make([]int, len(c.set.Classes)),
	}
	for _, i := range out.Isolated {
		iso.ClassCounts[c.set.Labels[i]]++
	}
	if o.Ranking == "gap" || o.Epochs == "mean" {
		return iso
	}
	epochs := out.Partial
	if o.Model == rundir.Base {
		epochs = out.Base
	}
	iso.Epoch = isolate.Epoch(o.Epochs, epochs)
	if o.Ranking == "loss" && o.Scope == "all" && len(out.Isolated) > 0 {
		losses := epochs[iso.Epoch-1]
		highest := losses[out.Isolated[0]]
		for _, i := range out.Isolated {
			highest = max(highest, losses[i])
		}
		iso.Threshold = report.Of(float64(highest))
	}
	return iso
}
