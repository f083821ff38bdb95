package attack

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"cordon/dataset"
	"cordon/internal/seed"
)

// PlanOptions says how many samples of a training set are poisoned, and whose.
type PlanOptions struct {
	// Rate is the poison rate, a fraction of ALL training samples: round(Rate·N)
	// samples are poisoned. 0 poisons none.
	Rate   float64
	Target int // the target label
	Mode   LabelMode
	Seed   uint64 // draws the samples
}

// DefaultPlanOptions returns a rate of 10 %, label 0 and seed 0 in the usual
// mode of an attack.
func DefaultPlanOptions(a Attack) PlanOptions { return PlanOptions{Rate: .1, Mode: a.Mode()} }

// Validate refuses a rate outside 0…1, a negative target and an unknown mode.
func (o PlanOptions) Validate() error {
	if !(o.Rate >= 0 && o.Rate <= 1) { // NaN too
		return fmt.Errorf("poison rate %v: must be 0 to 1", o.Rate)
	}
	if o.Target < 0 {
		return fmt.Errorf("target label %d: must not be negative", o.Target)
	}
	return o.Mode.Validate()
}

// Plan says which samples of one training set are poisoned. All of them carry
// the target label in the end.
type Plan struct {
	PlanOptions
	Indices []int // positions in the set, ascending
}

// NewPlan draws the samples to poison, each candidate equally likely:
// samples of other classes for DirtyLabel, of the target class for CleanLabel.
// With the same seed a smaller rate takes a part of a larger rate's samples.
//
// It refuses a target the set has no class for, more samples than there are
// candidates, and a rate above 0 that is less than half a sample.
func NewPlan(set *dataset.Set, opt PlanOptions) (*Plan, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	if opt.Target >= len(set.Classes) {
		return nil, noClass(opt.Target, set.Classes)
	}
	count := poisonCount(opt.Rate, set.Len())
	if count == 0 && opt.Rate > 0 {
		return nil, fmt.Errorf("poison rate %v of %d samples rounds to none", opt.Rate, set.Len())
	}
	candidates := candidatesFor(set, opt)
	if count > len(candidates) {
		return nil, fmt.Errorf("poison rate %v of %d samples is %d, but there are only %d %s",
			opt.Rate, set.Len(), count, len(candidates), whose(opt, set.Classes))
	}
	seed.Stream(opt.Seed, "poison/select").Shuffle(len(candidates), func(i, j int) {
		candidates[i], candidates[j] = candidates[j], candidates[i]
	})
	indices := slices.Clone(candidates[:count])
	slices.Sort(indices)
	return &Plan{opt, indices}, nil
}

// poisonCount is the rate convention of the whole program.
func poisonCount(rate float64, samples int) int {
	return int(math.Round(rate * float64(samples)))
}

func candidatesFor(set *dataset.Set, opt PlanOptions) []int {
	var candidates []int
	for i, label := range set.Labels {
		if (int(label) == opt.Target) == (opt.Mode == CleanLabel) {
			candidates = append(candidates, i)
		}
	}
	return candidates
}

func whose(opt PlanOptions, classes []string) string {
	if opt.Mode == CleanLabel {
		return fmt.Sprintf("of the target class %q (%s)", classes[opt.Target], opt.Mode)
	}
	return fmt.Sprintf("outside the target class %q (%s)", classes[opt.Target], opt.Mode)
}

func noClass(target int, classes []string) error {
	return fmt.Errorf("target label %d: the set has %d classes, labels 0 to %d", target, len(classes), len(classes)-1)
}

// Apply returns a poisoned copy of set: the planned samples with the trigger in
// their pixels and the target label, all others byte for byte as they were, in
// the same order. The copy has no Files: it is not on disk, and written under
// the old names a relabelled image would stand out. The result does not depend on the number of
// processors. It returns ctx's error when cancelled.
func Apply(ctx context.Context, set *dataset.Set, plan *Plan, trigger Trigger) (*dataset.Set, error) {
	if err := fits(set, trigger); err != nil {
		return nil, err
	}
	if err := plan.check(set); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := *set
	out.Pixels = slices.Clone(set.Pixels)
	out.Labels = slices.Clone(set.Labels)
	out.Files, out.Skipped = nil, nil
	err := forEach(ctx, len(plan.Indices), func(k int) {
		i := plan.Indices[k]
		trigger.Apply(out.Image(i), set.Image(i), i)
		out.Labels[i] = int32(plan.Target)
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// TriggeredTest returns what ASR and RA are measured on: the images of a test
// set that are not of the target class, with the trigger applied and their TRUE
// labels kept, in the set's order. It fails if there are none, and returns
// ctx's error when cancelled.
func TriggeredTest(ctx context.Context, set *dataset.Set, trigger Trigger, target int) (*dataset.Set, error) {
	if err := fits(set, trigger); err != nil {
		return nil, err
	}
	if target < 0 || target >= len(set.Classes) {
		return nil, noClass(target, set.Classes)
	}
	from := candidatesFor(set, PlanOptions{Target: target, Mode: DirtyLabel})
	if len(from) == 0 {
		return nil, fmt.Errorf("all %d test images are of the target class %q", set.Len(), set.Classes[target])
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := set.Subset(from)
	err := forEach(ctx, len(from), func(k int) {
		trigger.Apply(out.Image(k), set.Image(from[k]), from[k])
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// check refuses a plan that was made for another set.
func (p *Plan) check(set *dataset.Set) error {
	if p.Target < 0 || p.Target >= len(set.Classes) {
		return noClass(p.Target, set.Classes)
	}
	for k, i := range p.Indices {
		if i < 0 || i >= set.Len() {
			return fmt.Errorf("planned sample %d: the set has %d", i, set.Len())
		}
		if k > 0 && i <= p.Indices[k-1] {
			return errors.New("planned samples are not in ascending order")
		}
	}
	return nil
}

func fits(set *dataset.Set, trigger Trigger) error {
	if got, want := ShapeOf(set), trigger.Shape(); got != want {
		return fmt.Errorf("the trigger was made for images of %v, the set has %v", want, got)
	}
	return nil
}

// forEach calls do for 0…n−1 on all processors until ctx is cancelled. The
// calls must not depend on each other.
func forEach(ctx context.Context, n int, do func(i int)) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
