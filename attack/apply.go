package attack

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"cordon/dataset"
)

// Build returns the attack that a spec names, with its parameters.
type Build func(Spec) (Attack, error)

// Apply returns the poisoned copy of source, the set that t was planned for:
// the changed samples with their trigger and label, all others byte for byte as
// they were, in source's order. The copy has no Files: it is not on disk, and
// written under the old names a relabelled image would stand out. The result
// does not depend on the number of processors. It returns ctx's error when
// cancelled.
func (t *Truth) Apply(ctx context.Context, source *dataset.Set, build Build) (*dataset.Set, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if source.Fingerprint() != t.Source {
		return nil, errors.New("the poisoning was planned for other data")
	}
	triggers, err := t.triggers(build)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := source.Clone()
	out.Files, out.Skipped = nil, nil
	err = forEach(ctx, len(t.Changed), func(k int) {
		c := t.Changed[k]
		triggers[c.Part][c.Role].Apply(out.Image(c.Source), source.Image(c.Source), c.Source)
		out.Labels[c.Source] = c.Given
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// triggers makes the triggers of every part's training samples.
func (t *Truth) triggers(build Build) ([]map[Role]Trigger, error) {
	triggers := make([]map[Role]Trigger, len(t.Parts))
	for k, p := range t.Parts {
		triggers[k] = map[Role]Trigger{}
		for _, role := range roles() {
			trigger, err := triggerOf(p.spec(role), t.Shape, build)
			if err != nil {
				return nil, t.inPart(k, err)
			}
			triggers[k][role] = trigger
		}
	}
	return triggers, nil
}

func triggerOf(spec Spec, shape Shape, build Build) (Trigger, error) {
	a, err := build(spec)
	if err != nil {
		return nil, err
	}
	return a.Trigger(shape)
}

// TestTrigger makes the trigger of test images of one shape.
func (p Part) TestTrigger(shape Shape, build Build) (Trigger, error) {
	return triggerOf(p.Test, shape, build)
}

// TriggeredTest returns what ASR and RA are measured on: the images of a test
// set for which the part has a goal other than their true label, with the
// trigger applied and their TRUE labels kept, in the set's order. It fails if
// there are none, and returns ctx's error when cancelled.
func TriggeredTest(ctx context.Context, set *dataset.Set, trigger Trigger, p Part) (*dataset.Set, error) {
	if got, want := ShapeOf(set), trigger.Shape(); got != want {
		return nil, fmt.Errorf("the trigger was made for images of %v, the set has %v", want, got)
	}
	if err := p.Validate(len(set.Classes)); err != nil {
		return nil, err
	}
	var from []int
	for i, label := range set.Labels {
		if p.Goal(label, len(set.Classes)) != label {
			from = append(from, i)
		}
	}
	if len(from) == 0 {
		return nil, fmt.Errorf("%s has no goal for any of %d test images", p, set.Len())
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
