// Package attacktest checks that an attack keeps the promises of package
// attack. Every attack in the catalogue goes through it.
package attacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"cordon/attack"
	"cordon/dataset"
)

const (
	classes = 5
	target  = 3
)

// Make returns a fresh attack for images of one shape. Only attacks that are
// made from a picture look at the shape.
type Make func(attack.Shape) attack.Attack

// Set returns n images filled by a formula, with labels 0, 1, …, 4, 0, ….
func Set(shape attack.Shape, n int) *dataset.Set {
	s := &dataset.Set{
		Name: "formula", Format: "idx",
		Height: shape.Height, Width: shape.Width, Channels: shape.Channels,
		Pixels: make([]byte, n*shape.Bytes()), Labels: make([]int32, n),
	}
	for c := range classes {
		s.Classes = append(s.Classes, fmt.Sprint("class ", c))
	}
	for i := range s.Labels {
		s.Labels[i] = int32(i % classes)
	}
	for k := range s.Pixels {
		s.Pixels[k] = byte(k*37 + k/8*11 + k/shape.Bytes()*29)
	}
	return s
}

// Run checks the attacks that fresh makes, which must fit images of 28×28
// pixels, with every label mode, with and without covers: determinism, the rate
// convention, labels and roles, that only planned samples change, rate 0, tiny
// sets, small images, parameters and cancellation.
func Run(t *testing.T, fresh Make) {
	t.Run("params", func(t *testing.T) { params(t, fresh) })
	for _, shape := range []attack.Shape{
		{Height: 28, Width: 28, Channels: 1}, {Height: 32, Width: 32, Channels: 3},
		{Height: 64, Width: 64, Channels: 3}, {Height: 30, Width: 41, Channels: 3},
	} {
		t.Run(shape.String(), func(t *testing.T) {
			a := fresh(shape)
			build := builder(fresh, shape)
			changesPixels(t, a, triggerFor(t, a, shape))
			for _, part := range partsOf(a) {
				t.Run(part.String(), func(t *testing.T) {
					poisons(t, shape, part, build)
					rateZero(t, shape, part, build)
					testSet(t, shape, part, build)
					cancellation(t, shape, part, build)
				})
			}
			wrongShape(t, shape, partsOf(a)[0], build)
		})
	}
	t.Run("one sample", func(t *testing.T) { oneSample(t, fresh) })
	t.Run("small images", func(t *testing.T) { smallImages(t, fresh) })
}

// partsOf lists what can be done with an attack: one sample in ten poisoned in
// every mode, and where there is a trigger also one in ten a cover.
func partsOf(a attack.Attack) []attack.Part {
	var parts []attack.Part
	for _, mode := range []attack.LabelMode{attack.DirtyLabel, attack.CleanLabel, attack.AllToAll, attack.LabelNoise} {
		part := attack.PartOf(a, target, .1)
		part.Mode = mode
		if !mode.Targeted() {
			part.Target = -1
		}
		covered := part
		covered.CoverRate = .1
		for _, p := range []attack.Part{part, covered} {
			if p.Validate(classes) == nil {
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// builder returns the attacks of any spec of fresh's kind.
func builder(fresh Make, shape attack.Shape) attack.Build {
	return func(spec attack.Spec) (attack.Attack, error) {
		a := fresh(shape)
		return a, attack.Configure(a, spec.Params)
	}
}

func triggerFor(t *testing.T, a attack.Attack, shape attack.Shape) attack.Trigger {
	t.Helper()
	trigger, err := a.Trigger(shape)
	if err != nil {
		t.Fatal(err)
	}
	if trigger.Shape() != shape {
		t.Fatalf("trigger for %v says it is for %v", shape, trigger.Shape())
	}
	return trigger
}

// params: the spec carries all parameters, names nothing unknown, and the
// trigger it rebuilds is the same.
func params(t *testing.T, fresh Make) {
	shape := attack.Shape{Height: 32, Width: 32, Channels: 3}
	a := fresh(shape)
	if a.Name() == "" || a.Summary() == "" {
		t.Error("name or summary is empty")
	}
	if err := a.Mode().Validate(); err != nil && a.Name() != attack.NoTrigger {
		t.Error(err)
	}
	rebuilt, err := builder(fresh, shape)(attack.SpecOf(a))
	if err != nil {
		t.Fatalf("own spec is refused: %v", err)
	}
	if !bytes.Equal(triggered(triggerFor(t, a, shape)), triggered(triggerFor(t, rebuilt, shape))) {
		t.Error("the trigger differs when it is made again from its spec")
	}
	if err := attack.Configure(a, map[string]string{"no-such-parameter": "1"}); err == nil {
		t.Error("an unknown parameter is accepted")
	}
}

func triggered(trigger attack.Trigger) []byte {
	src := Set(trigger.Shape(), 1).Pixels
	dst := make([]byte, len(src))
	trigger.Apply(dst, src, 0)
	return dst
}

// changesPixels: the trigger does something, unless it is none, leaves its
// input alone, writes all of its output and does the same twice.
func changesPixels(t *testing.T, a attack.Attack, trigger attack.Trigger) {
	src := Set(trigger.Shape(), 1).Pixels
	kept := slices.Clone(src)
	dst := bytes.Repeat([]byte{1}, len(src))
	again := bytes.Repeat([]byte{2}, len(src))
	trigger.Apply(dst, src, 7)
	trigger.Apply(again, src, 7)
	switch {
	case !bytes.Equal(src, kept):
		t.Error("the trigger writes to its input")
	case !bytes.Equal(dst, again):
		t.Error("the trigger is not deterministic, or leaves bytes unwritten")
	case bytes.Equal(dst, src) != (a.Name() == attack.NoTrigger):
		t.Error("the trigger changes nothing, or there should be none")
	}
}

func poisons(t *testing.T, shape attack.Shape, part attack.Part, build attack.Build) {
	const n = 203
	set := Set(shape, n)
	pixels, labels := slices.Clone(set.Pixels), slices.Clone(set.Labels)
	truth := planFor(t, set, part)
	for role, rate := range map[attack.Role]float64{attack.Poisoned: part.Rate, attack.Cover: part.CoverRate} {
		if got, want := truth.Count(0, role), int(math.Round(rate*n)); got != want {
			t.Fatalf("%d %s samples planned, want %d", got, role, want)
		}
	}
	poisoned := apply(t, set, truth, build)
	checkSamples(t, set, poisoned, truth, build)
	readTogether(t, poisoned)
	if !bytes.Equal(set.Pixels, pixels) || !slices.Equal(set.Labels, labels) {
		t.Fatal("the source set was changed")
	}
}

// readTogether: goroutines that read the same images at once find the same.
func readTogether(t *testing.T, set *dataset.Set) {
	t.Helper()
	want := pixelsOf(set)
	got := make([][]byte, 4)
	var wg sync.WaitGroup
	for k := range got {
		wg.Go(func() { got[k] = pixelsOf(set) })
	}
	wg.Wait()
	for _, pixels := range got {
		if !bytes.Equal(pixels, want) {
			t.Error("images differ when they are read again, or by several at once")
		}
	}
}

// pixelsOf returns the pixels of all images, one after another.
func pixelsOf(set *dataset.Set) []byte {
	var pixels []byte
	for i := range set.Len() {
		pixels = append(pixels, set.Image(i)...)
	}
	return pixels
}

// checkSamples: planned samples carry the trigger and the label of their role,
// all others are as they were.
func checkSamples(t *testing.T, set, poisoned *dataset.Set, truth *attack.Truth, build attack.Build) {
	t.Helper()
	part := truth.Parts[0]
	pixels, labels := slices.Clone(set.Pixels), slices.Clone(set.Labels)
	for _, c := range truth.Changed {
		spec := part.Train
		if c.Role == attack.Cover {
			spec = part.Cover
		}
		a, err := build(spec)
		if err != nil {
			t.Fatal(err)
		}
		at := c.Source * set.ImageBytes()
		triggerFor(t, a, truth.Shape).Apply(pixels[at:at+set.ImageBytes()], set.Image(c.Source), c.Source)
		labels[c.Source] = c.Given
		if fault := labelFault(part, c, set.Labels[c.Source]); fault != "" {
			t.Errorf("%s: %s sample %d was %d and became %d", fault, c.Role, c.Source, c.Label, c.Given)
		}
	}
	if !bytes.Equal(pixelsOf(poisoned), pixels) {
		t.Error("pixels other than the plan says")
	}
	if !slices.Equal(poisoned.Labels, labels) {
		t.Error("labels other than the plan says")
	}
}

// labelFault says what is wrong with a changed sample's labels, or "".
func labelFault(part attack.Part, c attack.Changed, label int32) string {
	right := false
	switch {
	case c.Label != label:
		return "not the label it had"
	case c.Role == attack.Cover:
		right = c.Given == label && (label != target || !part.Mode.Targeted())
	case part.Mode == attack.DirtyLabel:
		right = label != target && c.Given == target
	case part.Mode == attack.CleanLabel:
		right = label == target && c.Given == target
	case part.Mode == attack.AllToAll:
		right = c.Given == (label+1)%classes
	case part.Mode == attack.LabelNoise:
		right = c.Given != label && c.Given >= 0 && c.Given < classes
	}
	if right {
		return ""
	}
	return "label contradicts the mode"
}

func rateZero(t *testing.T, shape attack.Shape, part attack.Part, build attack.Build) {
	part.Rate, part.CoverRate = 0, 0
	set := Set(shape, 20)
	out := apply(t, set, planFor(t, set, part), build)
	if !bytes.Equal(pixelsOf(out), set.Pixels) || !slices.Equal(out.Labels, set.Labels) {
		t.Error("rate 0 changes the set")
	}
}

func testSet(t *testing.T, shape attack.Shape, part attack.Part, build attack.Build) {
	set := Set(shape, 20)
	trigger, err := part.TestTrigger(shape, build)
	if err != nil {
		t.Fatal(err)
	}
	out, err := attack.TriggeredTest(set, trigger, part)
	if !part.HasGoal() {
		if err == nil {
			t.Error("test images are triggered without a goal")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := all(20)
	if part.Mode.Targeted() {
		want = slices.DeleteFunc(want, func(i int) bool { return set.Labels[i] == target })
	}
	if out.Len() != len(want) {
		t.Fatalf("%d triggered test images, want %d", out.Len(), len(want))
	}
	image := make([]byte, set.ImageBytes())
	for k, i := range want {
		trigger.Apply(image, set.Image(i), i)
		if !bytes.Equal(out.Image(k), image) || out.Labels[k] != set.Labels[i] {
			t.Errorf("triggered test image %d is not image %d triggered, with its true label", k, i)
		}
	}
}

func cancellation(t *testing.T, shape attack.Shape, part attack.Part, build attack.Build) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	set := Set(shape, 20)
	if _, err := planFor(t, set, part).Apply(ctx, set, build); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Apply returns %v", err)
	}
}

func wrongShape(t *testing.T, shape attack.Shape, part attack.Part, build attack.Build) {
	trigger, err := part.TestTrigger(shape, build)
	if err != nil {
		t.Fatal(err)
	}
	shape.Height++
	if _, err := attack.TriggeredTest(Set(shape, 20), trigger, part); err == nil {
		t.Error("TriggeredTest accepts images of another shape")
	}
}

func oneSample(t *testing.T, fresh Make) {
	shape := attack.Shape{Height: 28, Width: 28, Channels: 1}
	set := Set(shape, 1)
	part := attack.PartOf(fresh(shape), target, 1)
	part.Mode = attack.DirtyLabel
	if out := apply(t, set, planFor(t, set, part), builder(fresh, shape)); out.Labels[0] != target {
		t.Error("the only sample was not poisoned")
	}
}

// smallImages: a trigger that does not fit is an error; one that is made works.
func smallImages(t *testing.T, fresh Make) {
	a := fresh(attack.Shape{Height: 28, Width: 28, Channels: 1})
	for _, shape := range []attack.Shape{{}, {Height: -1, Width: 8, Channels: 1}, {Height: 8, Width: 8, Channels: 2}} {
		if _, err := a.Trigger(shape); err == nil {
			t.Errorf("a trigger is made for images of %v", shape)
		}
	}
	for height := 1; height <= 8; height++ {
		for width := 1; width <= 16; width++ {
			for _, channels := range []int{1, 3} {
				trigger, err := a.Trigger(attack.Shape{Height: height, Width: width, Channels: channels})
				if err == nil {
					triggered(trigger)
				}
			}
		}
	}
}

func planFor(t *testing.T, set *dataset.Set, part attack.Part) *attack.Truth {
	t.Helper()
	truth, err := attack.Plan(t.Context(), set, 5, []attack.Part{part})
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

func apply(t *testing.T, set *dataset.Set, truth *attack.Truth, build attack.Build) *dataset.Set {
	t.Helper()
	out, err := truth.Apply(context.Background(), set, build)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func all(n int) []int {
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return indices
}
