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
	// Measuring goes on until it took measuredTime or measuredSteps.
	measuredTime  = time.Second
	measuredSteps = 64
)

// measure times training, then scoring.
func (p *pt) measure() (speed, error) {
	m, err := p.fresh("estimate")
	if err != nil {
		return speed{}, err
	}
	defer m.Close()
	var s speed
	batch := p.measured(p.Recipe.Base.Batch)
	s.learn, err = p.rate(batch, func(samples []int) error { return p.learn(m, samples, batch) })
	if err != nil {
		return speed{}, err
	}
	s.score, err = p.rate(p.measured(train.ScoreBatch), func(samples []int) error {
		_, err := train.Score(p.ctx, m, p.Train, samples, "estimate", event.Discard)
		return err
	})
	return s, err
}

// measured is the batch to measure instead of one that may be of large images.
func (p *pt) measured(batch int) int {
	return max(4, min(batch, measuredPixels/(p.Train.Set.Height*p.Train.Set.Width)))
}

// rate is the images per second of some work on samples. It measures twice as many
// batches each time, so that what happens once weighs little, as in a long run. The
// first batch takes memory that the kernel has to clear, and does not count.
func (p *pt) rate(batch int, work func(samples []int) error) (float64, error) {
	for steps := 1; ; steps *= 2 {
		began := time.Now()
		if err := work(p.repeated(steps * batch)); err != nil {
			return 0, err
		}
		if took := time.Since(began); steps > 1 && took >= measuredTime || steps >= measuredSteps {
			return float64(steps*batch) / took.Seconds(), nil
		}
	}
}

// repeated returns n samples, more than once where the set has fewer.
func (p *pt) repeated(n int) []int {
	samples := make([]int, n)
	for i := range samples {
		samples[i] = i % p.Train.Set.Len()
	}
	return samples
}

// learn passes over the samples once.
func (p *pt) learn(m *nn.Model, samples []int, batch int) error {
	setting := p.Recipe.Base
	setting.Epochs, setting.Schedule = 1, "constant"
	term := train.Term{Name: "estimate", Indices: samples, Batch: batch, Weight: 1, Norm: torch.NormTrain}
	_, err := train.Run(p.ctx, train.Job{
		Stage: "estimate", Model: m, Input: p.Train, Epochs: 1, Events: event.Discard,
		Phases: []train.Phase{train.SGDPhase("estimate", setting, term)},
	})
	return err
}
