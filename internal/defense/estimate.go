package defense

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/repair"
	"cordon/internal/torch"
	"cordon/internal/train"
)

// Estimate measures a few training and scoring steps on the data and returns how
// long the stages take that the run folder (nil: none) does not hold yet. It is
// good to about a third.
func Estimate(ctx context.Context, env Env) (time.Duration, error) {
	p := &pt{Env: env, ctx: ctx}
	shares, err := p.shares()
	if err != nil {
		return 0, err
	}
	learned, scored := 0., 0.
	for _, s := range shares {
		done, err := p.done(s.stage)
		if err != nil {
			return 0, err
		}
		if !done {
			learned, scored = learned+float64(s.learned), scored+float64(s.scored)
		}
	}
	if learned+scored == 0 {
		return 0, nil
	}
	rate, err := p.measure()
	if err != nil {
		return 0, fmt.Errorf("measure the speed: %w", err)
	}
	return time.Duration((learned/rate.learn + scored/rate.score) * float64(time.Second)), nil
}

// share is the images that a stage learns from and those that it only passes forward.
type share struct {
	stage           string
	learned, scored int
}

// shares lists the work of a whole run.
func (p *pt) shares() ([]share, error) {
	r, n, tested := p.Recipe, p.Train.Set.Len(), 0
	if p.Test != nil {
		tested = p.Test.Set.Len()
	}
	scoring := n + tested
	if r.Isolate.ScoreNorm == "recalibrated" {
		scoring += min(n, train.RecalibrationSamples)
	}
	all := []share{
		{baseStage.name, n * r.Base.Epochs, scoring * scorings(r.Base)},
		{partialStage.name, n * r.Partial.Epochs, scoring * scorings(r.Partial.Train)},
		{baseNormsStage.name, 0, n},
	}
	if repair.Wanted(r.Repair) {
		learned, retained, err := p.repairing(n)
		if err != nil {
			return nil, err
		}
		s := share{repairStage.name, learned, 0}
		if r.Repair.ScoreEpochs {
			s.scored = tested * repair.Epochs(r.Repair)
		}
		all = append(all, s, share{cleanNormsStage.name, 0, retained})
	}
	for _, m := range Models(r) {
		all = append(all, share{evaluation(m), 0, tested})
	}
	return all, nil
}

// repairing returns the images that the repair of n samples learns from, and how
// many of them are retained if isolation takes as many as it is asked for.
func (p *pt) repairing(n int) (learned, retained int, err error) {
	method, err := repair.New(p.Recipe.Repair.Method)
	if err != nil {
		return 0, 0, err
	}
	isolated := int(p.Recipe.Isolate.Rate * float64(n))
	task := repair.Task{Isolated: train.All(n)[:isolated], Retained: train.All(n)[isolated:], Classes: len(p.Train.Set.Classes)}
	job := train.Job{Epochs: repair.Epochs(p.Recipe.Repair), Phases: method(p.Recipe.Repair, task)}
	return int(job.Images()), n - isolated, nil
}

// scorings is how often a training records its losses.
func scorings(t recipe.Train) int {
	if t.ScoreEpochs {
		return t.Epochs
	}
	return 1
}

// done reports whether the run folder holds a stage.
func (p *pt) done(stage string) (bool, error) {
	if p.Dir == nil {
		return false, nil
	}
	var mark json.RawMessage
	return p.Dir.Marked(stage, &mark)
}

// speed is in images per second.
type speed struct{ learn, score float64 }

const (
	// measuredPixels bounds the images of one measured step, so that large
	// images do not make it long.
	measuredPixels = 128 * 64 * 64
	// measuredTime and measuredSteps bound the measuring of steps.
	measuredTime  = 2 * time.Second
	measuredSteps = 4
)

// measure times training steps after a first one that warms up, then scoring.
func (p *pt) measure() (speed, error) {
	set := p.Train.Set
	batch := max(4, min(p.Recipe.Base.Batch, measuredPixels/(set.Height*set.Width)))
	some := make([]int, batch)
	for i := range some {
		some[i] = i % set.Len()
	}
	m, err := p.fresh("estimate")
	if err != nil {
		return speed{}, err
	}
	defer m.Close()
	learn, err := rate(batch, func() error { return p.learnOnce(m, some) })
	if err != nil {
		return speed{}, err
	}
	score, err := rate(batch, func() error {
		_, err := train.Score(p.ctx, m, p.Train, some, "estimate", event.Discard)
		return err
	})
	return speed{learn, score}, err
}

// rate repeats a step of some images and returns images per second.
func rate(images int, step func() error) (float64, error) {
	if err := step(); err != nil {
		return 0, err
	}
	began, steps := time.Now(), 0
	for steps < measuredSteps && time.Since(began) < measuredTime {
		if err := step(); err != nil {
			return 0, err
		}
		steps++
	}
	return float64(steps*images) / time.Since(began).Seconds(), nil
}

// learnOnce takes one training step on the samples.
func (p *pt) learnOnce(m *nn.Model, samples []int) error {
	setting := p.Recipe.Base
	setting.Epochs, setting.Schedule = 1, "constant"
	term := train.Term{Name: "estimate", Indices: samples, Batch: len(samples), Weight: 1, Norm: torch.NormTrain}
	_, err := train.Run(p.ctx, train.Job{
		Stage: "estimate", Model: m, Input: p.Train, Epochs: 1, Events: event.Discard,
		Phases: []train.Phase{train.SGDPhase("estimate", setting, term)},
	})
	return err
}
