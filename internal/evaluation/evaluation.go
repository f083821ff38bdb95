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
	// test set, to which the trigger is applied.
	Train, Test *dataset.Set
	// Truth says what was poisoned; nil measures ACC only.
	Truth *attack.Truth
	// BF16 makes Model compute in bfloat16; Run takes the run's own precision.
	BF16    bool
	Library string // the engine library; empty looks in the usual places
	Device  string // cpu, cuda or cuda:N; empty is cpu
	Threads int    // 0 is one per processor
	Events  event.Sink
}

// Model evaluates one model file on the test images.
func Model(ctx context.Context, path string, opt Options) (report.Model, error) {
	result := report.Model{Name: path, File: path}
	err := with(ctx, opt, func(e *evaluator) error {
		m, d, err := nn.Load(e.engine, path, e.device, opt.BF16)
		if err != nil {
			return err
		}
		defer m.Close()
		if len(d.Classes) != len(opt.Test.Classes) {
			return fmt.Errorf("%s tells %d classes apart, the data has %d", path, len(d.Classes), len(opt.Test.Classes))
		}
		if d.Height != 0 && (d.Height != opt.Test.Height || d.Width != opt.Test.Width) {
			return fmt.Errorf("%s was trained on images of %d×%d, the data has %d×%d", path, d.Height, d.Width, opt.Test.Height, opt.Test.Width)
		}
		return e.measure(ctx, m, d, &result)
	})
	return result, err
}

// evaluator is one evaluation with the engine open.
type evaluator struct {
	Options
	engine    *torch.Engine
	device    torch.Device
	triggered *dataset.Set // the test images with the trigger; nil without truth
}

// with opens the engine, makes the triggered test images, and runs f on the
// engine's thread.
func with(ctx context.Context, opt Options, f func(*evaluator) error) error {
	if opt.Test == nil {
		return errors.New("no test images to evaluate on")
	}
	if opt.Events == nil {
		opt.Events = event.Discard
	}
	e := &evaluator{Options: opt}
	var err error
	if e.triggered, err = triggered(ctx, opt.Test, opt.Truth); err != nil {
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

// triggered applies the attack's trigger to the test images outside the target
// class.
func triggered(ctx context.Context, test *dataset.Set, truth *attack.Truth) (*dataset.Set, error) {
	if truth == nil {
		return nil, nil
	}
	if !slices.Equal(truth.Classes, test.Classes) {
		return nil, errors.New("the truth file is about a data set with other classes")
	}
	a, err := catalog.AttackFromSpec(truth.Attack)
	if err != nil {
		return nil, fmt.Errorf("truth file: %w", err)
	}
	trigger, err := a.Trigger(attack.ShapeOf(test))
	if err != nil {
		return nil, fmt.Errorf("truth file: %w", err)
	}
	return attack.TriggeredTest(ctx, test, trigger, truth.Target)
}

// measure fills in a model's figures.
func (e *evaluator) measure(ctx context.Context, m *nn.Model, d nn.Description, out *report.Model) error {
	clean, err := e.predict(ctx, m, d, e.Test, out.Name)
	if err != nil {
		return err
	}
	if e.triggered == nil {
		acc, err := metric.Accuracy(clean, e.Test.Labels)
		out.ACC = report.Of(acc)
		return err
	}
	triggered, err := e.predict(ctx, m, d, e.triggered, out.Name+" with the trigger")
	if err != nil {
		return err
	}
	target := int32(e.Truth.Target)
	b, err := metric.MeasureBackdoor(clean, e.aligned(triggered, target), e.Test.Labels, target)
	if err != nil {
		return err
	}
	out.ACC, out.ASR, out.RA, out.Floor = report.Of(b.ACC), report.Of(b.ASR), report.Of(b.RA), report.Of(b.Floor)
	return nil
}

// aligned spreads the predictions for triggered images over all test images;
// those of the target class, which have none, are not counted by metric.
func (e *evaluator) aligned(triggered []int32, target int32) []int32 {
	out := make([]int32, e.Test.Len())
	next := 0
	for i, label := range e.Test.Labels {
		if label != target {
			out[i] = triggered[next]
			next++
		}
	}
	return out
}

func (e *evaluator) predict(ctx context.Context, m *nn.Model, d nn.Description, set *dataset.Set, what string) ([]int32, error) {
	input := train.Input{Set: set, Mean: d.Mean, Std: d.Std}
	scores, err := train.Score(ctx, m, input, train.All(set.Len()), what, e.Events)
	return scores.Predictions, err
}
