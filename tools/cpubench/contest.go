package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
)

const (
	finalists = 2 // rivals that run against cordon
	passes    = 2 // tries of each rival before: the machine may be busy in one
)

// contest is one line of the table.
type contest struct {
	row       row
	precision string
	own       contestant
	rivals    []contestant
}

// trial is a rival's best rate before the rounds.
type trial struct {
	contestant
	rate float64 // 0 if it failed
}

// outcome is what a contest measured.
type outcome struct {
	contest
	trials     []trial
	rival      string // the best one
	rate, best float64
	peak       float64 // MiB
	rivalPeak  float64
	ratios     []float64 // of each round, ascending
}

// estimate returns the minutes that a run takes on two cores, and those that its
// compilations add until PyTorch has them in its cache.
func (m examined) estimate(chosen []row, rounds int) (minutes, compiling int) {
	const process, compilation = 12, 70 // seconds
	processes, compiled := 0, 0
	for _, r := range chosen {
		for _, precision := range m.precisions {
			c := newContest(r, precision, programs{}, m.peers)
			processes += rounds * (1 + min(len(c.rivals), finalists))
			if len(c.rivals) > finalists {
				processes += passes * len(c.rivals)
			}
			for _, rival := range c.rivals {
				if slices.Contains(rival.command, "--compile") {
					compiled++
				}
			}
		}
	}
	return 1 + processes*process/60, compiled * compilation / 60
}

func newContest(r row, precision string, own programs, peers []peer) contest {
	c := contest{row: r, precision: precision, own: cordonOn(own.train, r.own, precision)}
	if r.rival != nil {
		c.rivals = []contestant{cordonOn(own.train, *r.rival, precision)}
		return c
	}
	for _, p := range peers {
		c.rivals = append(c.rivals, pytorchOn(p, r.own, precision)...)
	}
	return c
}

func (c contest) hold(ctx context.Context, rounds int) (outcome, error) {
	o := outcome{contest: c}
	finals := c.rivals
	if len(finals) > finalists {
		say("%s in %s: choosing among %d ways of PyTorch", c.row.title, c.precision, len(c.rivals))
		var err error
		if o.trials, err = c.qualify(ctx); err != nil {
			return o, err
		}
		if finals = fastest(o.trials); len(finals) == 0 {
			return o, errors.New("every PyTorch failed")
		}
	}
	say("%s in %s: %d × %d processes", c.row.title, c.precision, rounds, 1+len(finals))
	own, others := []sample{}, make([][]sample, len(finals))
	for range rounds {
		s, err := c.own.time(ctx, c.own.steps)
		if err != nil {
			return o, err
		}
		own = append(own, s)
		for i, f := range finals {
			s, err := f.time(ctx, f.steps)
			if err != nil {
				return o, err
			}
			others[i] = append(others[i], s)
		}
	}
	o.judge(own, finals, others)
	return o, nil
}

// qualify times every rival with fewer steps. One that fails is told and left out.
func (c contest) qualify(ctx context.Context) ([]trial, error) {
	trials := make([]trial, len(c.rivals))
	failed := make([]bool, len(c.rivals))
	for range passes {
		for i, r := range c.rivals {
			trials[i].contestant = r
			if failed[i] {
				continue
			}
			s, err := r.time(ctx, max(2, r.steps/2))
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				say("failed: %v", err)
				failed[i], s.rate, trials[i].rate = true, 0, 0
			}
			trials[i].rate = max(trials[i].rate, s.rate)
		}
	}
	return trials, nil
}

// fastest returns the finalists.
func fastest(trials []trial) []contestant {
	ordered := slices.Clone(trials)
	slices.SortStableFunc(ordered, func(a, b trial) int { return cmp.Compare(b.rate, a.rate) })
	var out []contestant
	for _, t := range ordered {
		if t.rate > 0 && len(out) < finalists {
			out = append(out, t.contestant)
		}
	}
	return out
}

// judge compares cordon with the rival of the highest median.
func (o *outcome) judge(own []sample, rivals []contestant, others [][]sample) {
	best := 0
	for i := range others {
		if median(rates(others[i])) > median(rates(others[best])) {
			best = i
		}
	}
	o.rival = rivals[best].name
	o.rate, o.best = median(rates(own)), median(rates(others[best]))
	o.peak, o.rivalPeak = median(peaks(own)), median(peaks(others[best]))
	for i := range own {
		o.ratios = append(o.ratios, own[i].rate/others[best][i].rate)
	}
	slices.Sort(o.ratios)
}

func rates(samples []sample) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, s.rate)
	}
	return out
}

func peaks(samples []sample) []float64 {
	var out []float64
	for _, s := range samples {
		out = append(out, s.peak)
	}
	return out
}

// median is the middle of the values, or between the two middle ones.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
