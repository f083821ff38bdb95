// Package evaluation measures models and runs against the truth: ACC, ASR with
// its floor, RA, and how well the isolated samples are the poisoned ones. It is
// the only place where results and truth meet.
package evaluation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/catalog"
	"cordon/internal/event"
	"cordon/internal/metric"
	"cordon/internal/nn"
	"cordon/internal/torch"
	"cordon/internal/train"
	"cordon/report"
)

// Options says what is evaluated against what.
type Options struct {
	// Train is the training set of the run, which Run needs. Test is the clean
	// test set, to which the trigger is applied; Run does without where there is
	// none, Model needs it.
	Train, Test *dataset.Set
	// Truth says what was poisoned; nil measures ACC only.
	Truth   *attack.Truth
	Library string // the engine library; empty looks in the usual places
	Device  string // cpu, cuda or cuda:N; empty is cpu
	Threads int    // 0 is one per processor
	Events  event.Sink
}

// Model evaluates one model file on the test images, in fp32.
func Model(ctx context.Context, path string, opt Options) (report.Model, error) {
	result := report.Model{Name: path, File: path}
	if opt.Test == nil {
		return result, errors.New("no test images to evaluate on")
	}
	err := with(ctx, opt, func(e *evaluator) error {
		m, d, err := nn.Load(e.engine, path, e.device, false)
		if err != nil {
			return err
		}
		defer m.Close()
		if err := matches(d, opt.Test); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return e.measure(ctx, m, d, &result)
	})
	return result, err
}

// matches refuses test images whose labels or size are not the model's. A file
// without cordon's description knows only how many classes there are.
func matches(d nn.Description, test *dataset.Set) error {
	switch {
	case len(d.Classes) != len(test.Classes):
		return fmt.Errorf("the model tells %d classes apart, the data has %d", len(d.Classes), len(test.Classes))
	case d.Height == 0:
		return nil
	case d.Height != test.Height || d.Width != test.Width:
		return fmt.Errorf("the model was trained on images of %d×%d, the data has %d×%d", d.Height, d.Width, test.Height, test.Width)
	}
	for i, class := range test.Classes {
		if d.Classes[i] != class {
			return fmt.Errorf("class %d of the model is %q, that of the data %q", i, d.Classes[i], class)
		}
	}
	return nil
}

// evaluator is one evaluation with the engine open.
type evaluator struct {
	Options
	engine   *torch.Engine
	device   torch.Device
	triggers []attack.Trigger // of the test images, one a part; nil for a part without a goal
}

// with opens the engine, makes the triggers of the test images, and runs f on
// the engine's thread.
func with(ctx context.Context, opt Options, f func(*evaluator) error) error {
	if opt.Events == nil {
		opt.Events = event.Discard
	}
	e := &evaluator{Options: opt}
	var err error
	if e.triggers, err = triggers(opt.Test, opt.Truth); err != nil {
		return err
	}
	if e.engine, err = torch.Open(torch.Options{Library: opt.Library, Threads: opt.Threads}); err != nil {
		return err
	}
	defer e.engine.Close()
	if e.device, err = e.engine.Device(opt.Device); err != nil {
		return err
	}
	return e.engine.Do(ctx, func() error { return f(e) })
}

// triggers makes the trigger of every part that has a goal.
func triggers(test *dataset.Set, truth *attack.Truth) ([]attack.Trigger, error) {
	if truth == nil {
		return nil, nil
	}
	if !slices.Equal(truth.Classes, test.Classes) {
		return nil, errors.New("the truth file is about a data set with other classes")
	}
	out := make([]attack.Trigger, len(truth.Parts))
	for k, p := range truth.Parts {
		if !p.HasGoal() {
			continue
		}
		var err error
		if out[k], err = p.TestTrigger(attack.ShapeOf(test), catalog.AttackFromSpec); err != nil {
			return nil, fmt.Errorf("truth file: %w", err)
		}
	}
	return out, nil
}

// measure fills in a model's figures.
func (e *evaluator) measure(ctx context.Context, m *nn.Model, d nn.Description, out *report.Model) error {
	clean, err := e.predict(ctx, m, d, e.Test, out.Name)
	if err != nil {
		return err
	}
	acc, err := metric.Accuracy(clean, e.Test.Labels)
	if err != nil {
		return err
	}
	out.ACC = report.Of(acc)
	var all trial
	var parts []report.Figures
	for k, trigger := range e.triggers {
		var figures report.Figures
		if trigger != nil {
			t, err := e.try(ctx, m, d, k, out.Name, clean)
			if err != nil {
				return err
			}
			if figures, err = t.figures(); err != nil {
				return err
			}
			all.add(t)
		}
		parts = append(parts, figures)
	}
	if len(parts) > 1 {
		out.Parts = parts
	}
	if len(all.labels) == 0 {
		return nil
	}
	together, err := all.figures()
	out.ASR, out.RA, out.Floor = together.ASR, together.RA, together.Floor
	return err
}

// trial is what a model says of test images with a trigger.
type trial struct{ clean, triggered, labels, goals []int32 }

func (t *trial) add(other trial) {
	t.clean = append(t.clean, other.clean...)
	t.triggered = append(t.triggered, other.triggered...)
	t.labels = append(t.labels, other.labels...)
	t.goals = append(t.goals, other.goals...)
}

func (t *trial) figures() (report.Figures, error) {
	b, err := metric.MeasureBackdoor(t.clean, t.triggered, t.labels, t.goals)
	if err != nil {
		return report.Figures{}, err
	}
	return report.Figures{ASR: report.Of(b.ASR), RA: report.Of(b.RA), Floor: report.Of(b.Floor)}, nil
}

// try shows the model the test images with the trigger of a part. Only images
// for which the part has a goal take part.
func (e *evaluator) try(ctx context.Context, m *nn.Model, d nn.Description, part int, name string, clean []int32) (trial, error) {
	p := e.Truth.Parts[part]
	set, err := attack.TriggeredTest(e.Test, e.triggers[part], p)
	if err != nil {
		return trial{}, err
	}
	what := name + " with the trigger"
	if len(e.triggers) > 1 {
		what = fmt.Sprintf("%s with the trigger of part %d", name, part+1)
	}
	t := trial{labels: set.Labels}
	if t.triggered, err = e.predict(ctx, m, d, set, what); err != nil {
		return trial{}, err
	}
	for i, label := range e.Test.Labels {
		if goal := p.Goal(label, len(e.Test.Classes)); goal != label {
			t.clean, t.goals = append(t.clean, clean[i]), append(t.goals, goal)
		}
	}
	return t, nil
}

func (e *evaluator) predict(ctx context.Context, m *nn.Model, d nn.Description, set *dataset.Set, what string) ([]int32, error) {
	input := train.Input{Set: set, Mean: d.Mean, Std: d.Std}
	scores, err := train.Score(ctx, m, input, train.All(set.Len()), what, e.Events)
	return scores.Predictions, err
}
