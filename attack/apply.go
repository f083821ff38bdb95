package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cordon/dataset"
)

// Build returns the attack that a spec names, with its parameters.
type Build func(Spec) (Attack, error)

// Apply returns the poisoned copy of source, the set that t was planned for:
// the changed samples with their trigger and label, all others byte for byte as
// they were, in source's order, and all of it enlarged if t says so. The copy holds
// no pixels: triggers are drawn into source's images whenever they are asked for, so
// it needs no memory, and source must stay open. It has no Files: it is not on disk,
// and written under the old names a relabelled image would stand out. Apply returns
// ctx's error when cancelled.
func (t *Truth) Apply(ctx context.Context, source *dataset.Set, build Build) (*dataset.Set, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if err := t.checkSource(ctx, source); err != nil {
		return nil, err
	}
	triggers, err := t.triggers(build)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	changed := make(map[int]Trigger, len(t.Changed))
	out := source.WithImages(func(i int) []byte {
		if trigger := changed[i]; trigger != nil {
			return triggered(trigger, source.Image(i), i)
		}
		return source.Image(i)
	})
	out.Files, out.Skipped = nil, nil
	for _, c := range t.Changed {
		i := c.Source % source.Len()
		if source.Labels[i] != c.Label {
			return nil, fmt.Errorf("sample %d of the source has label %d, not %d", i, source.Labels[i], c.Label)
		}
		changed[i] = triggers[c.Part][c.Role]
		out.Labels[i] = c.Given
	}
	return t.enlarged(out)
}

// checkSource refuses another set than t was planned for.
func (t *Truth) checkSource(ctx context.Context, source *dataset.Set) error {
	if source.Len() != t.sourceSamples() || ShapeOf(source) != t.Shape || !slices.Equal(source.Classes, t.Classes) {
		return errors.New("the poisoning was planned for a set of other size or classes")
	}
	if source == t.hashed {
		return nil
	}
	fingerprint, err := source.Fingerprint(ctx)
	if err == nil && fingerprint != t.Source {
		err = errors.New("the poisoning was planned for other data")
	}
	return err
}

// triggered returns an image with the trigger.
func triggered(trigger Trigger, image []byte, index int) []byte {
	out := make([]byte, len(image))
	trigger.Apply(out, image, index)
	return out
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
// trigger applied and their TRUE labels kept, in the set's order. Like Apply's
// result it is made of the set when it is read. It fails if there are none.
func TriggeredTest(set *dataset.Set, trigger Trigger, p Part) (*dataset.Set, error) {
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
	clean := set.Subset(from)
	return clean.WithImages(func(k int) []byte { return triggered(trigger, clean.Image(k), from[k]) }), nil
}
