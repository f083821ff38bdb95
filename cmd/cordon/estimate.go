package main

import (
	"context"
	"fmt"
	"time"

	"cordon"
	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/repair"
	"cordon/internal/torch"
	"cordon/internal/train"
)

// estimate measures a few training and evaluation steps on the data and
// returns how long a whole run would take. It is good to about a third.
func estimate(ctx context.Context, flags engineFlags, r cordon.Recipe, set, test *dataset.Set) (time.Duration, error) {
	engine, err := torch.Open(torch.Options{Library: flags.library, Threads: flags.threads})
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	device, err := engine.Device(flags.device)
	if err != nil {
		return 0, err
	}
	var s speed
	err = engine.Do(ctx, func() error {
		s, err = measure(ctx, engine, device, r, set)
		return err
	})
	if err != nil {
		return 0, err
	}
	learned, scored := work(r, set, test)
	seconds := learned/s.learn + scored/s.score
	return time.Duration(seconds * float64(time.Second)), nil
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
func measure(ctx context.Context, engine *torch.Engine, device torch.Device, r cordon.Recipe, set *dataset.Set) (speed, error) {
	batch := max(4, min(r.Base.Batch, measuredPixels/(set.Height*set.Width)))
	some := make([]int, batch)
	for i := range some {
		some[i] = i % set.Len()
	}
	input, err := train.NewInput(set.Subset(some), r.Data.Normalize)
	if err != nil {
		return speed{}, err
	}
	cfg := nn.Config{Arch: r.Model.Arch, Stem: r.Model.Stem, Classes: len(set.Classes)}
	m, err := nn.New(engine, cfg, device, r.Model.Precision == "bf16", r.Seed, "estimate")
	if err != nil {
		return speed{}, err
	}
	defer m.Close()
	rate := func(step func() error) (float64, error) {
		if err := step(); err != nil {
			return 0, fmt.Errorf("measure the speed: %w", err)
		}
		began, steps := time.Now(), 0
		for steps < measuredSteps && time.Since(began) < measuredTime {
			if err := step(); err != nil {
				return 0, fmt.Errorf("measure the speed: %w", err)
			}
			steps++
		}
		return float64(steps*batch) / time.Since(began).Seconds(), nil
	}
	learn, err := rate(func() error { return learnOnce(ctx, m, input, r) })
	if err != nil {
		return speed{}, err
	}
	score, err := rate(func() error {
		_, err := train.Score(ctx, m, input, train.All(batch), "estimate", event.Discard)
		return err
	})
	return speed{learn, score}, err
}

// learnOnce takes one training step on all of the input.
func learnOnce(ctx context.Context, m *nn.Model, input train.Input, r cordon.Recipe) error {
	setting := r.Base
	setting.Epochs, setting.Schedule = 1, "constant"
	all := train.All(input.Set.Len())
	term := train.Term{Name: "estimate", Indices: all, Batch: len(all), Weight: 1, Norm: torch.NormTrain}
	_, err := train.Run(ctx, train.Job{
		Stage: "estimate", Model: m, Input: input, Epochs: 1, Events: event.Discard,
		Phases: []train.Phase{train.SGDPhase("estimate", setting, term)},
	})
	return err
}

// work returns the images that a whole run learns from and those that it only
// passes forward.
func work(r cordon.Recipe, set, test *dataset.Set) (learned, scored float64) {
	n, tested := float64(set.Len()), 0.
	if r.Data.Sample > 0 {
		n = min(n, float64(r.Data.Sample))
	}
	if test != nil {
		tested = float64(test.Len())
	}
	isolated := r.Isolate.Rate * n
	learned = n * float64(r.Base.Epochs+r.Partial.Epochs)
	scored = (n + tested) * float64(scorings(r.Base)+scorings(r.Partial.Train))
	if r.Repair.Method == "joint" {
		isolated = (n - isolated) * float64(r.Repair.IsolatedBatch) / float64(r.Repair.Batch)
	}
	scored += n + 2*tested // M_s: batch norm statistics recomputed; tested with both
	if !repair.Wanted(r.Repair) {
		return learned, scored
	}
	retained := n - r.Isolate.Rate*n
	tuned := retained
	if r.Repair.Method == "joint" {
		tuned += isolated / repair.FinetuneEvery
	}
	learned += (retained+isolated)*float64(r.Repair.Epochs) + tuned*float64(r.Repair.FinetuneEpochs)
	scored += retained + 2*tested
	if r.Repair.ScoreEpochs {
		scored += tested * float64(r.Repair.Epochs+r.Repair.FinetuneEpochs)
	}
	return learned, scored
}

// scorings is how often a training records its losses.
func scorings(t recipe.Train) int {
	if t.ScoreEpochs {
		return t.Epochs
	}
	return 1
}
