// Package attacktest checks that an attack keeps the promises of package
// attack. Every attack in the catalogue goes through it.
package attacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"cordon/attack"
	"cordon/dataset"
)

const (
	classes = 5
	target  = 3
)

var modes = []attack.LabelMode{attack.DirtyLabel, attack.CleanLabel}

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

// Run checks a with its present parameters, which must fit images of 28×28
// pixels: determinism, the rate convention, labels, that only planned samples
// change, rate 0, tiny sets, small images, parameters and cancellation.
func Run(t *testing.T, a attack.Attack) {
	t.Run("params", func(t *testing.T) { params(t, a) })
	for _, shape := range []attack.Shape{
		{Height: 28, Width: 28, Channels: 1}, {Height: 32, Width: 32, Channels: 3},
		{Height: 64, Width: 64, Channels: 3}, {Height: 30, Width: 41, Channels: 3},
	} {
		t.Run(shape.String(), func(t *testing.T) {
			trigger := triggerFor(t, a, shape)
			changesPixels(t, trigger)
			for _, mode := range modes {
				t.Run(string(mode), func(t *testing.T) { poisons(t, trigger, mode) })
			}
			rateZero(t, trigger)
			testSet(t, trigger)
			cancellation(t, trigger)
			wrongShape(t, trigger)
		})
	}
	t.Run("one sample", func(t *testing.T) { oneSample(t, a) })
	t.Run("small images", func(t *testing.T) { smallImages(t, a) })
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
func params(t *testing.T, a attack.Attack) {
	if a.Name() == "" || a.Summary() == "" {
		t.Error("name or summary is empty")
	}
	if err := a.Mode().Validate(); err != nil {
		t.Error(err)
	}
	spec := attack.SpecOf(a)
	before := triggered(triggerFor(t, a, attack.Shape{Height: 32, Width: 32, Channels: 3}))
	if err := attack.Configure(a, spec.Params); err != nil {
		t.Fatalf("own spec is refused: %v", err)
	}
	after := triggered(triggerFor(t, a, attack.Shape{Height: 32, Width: 32, Channels: 3}))
	if !bytes.Equal(before, after) {
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

// changesPixels: the trigger does something, leaves its input alone, writes all
// of its output and does the same twice.
func changesPixels(t *testing.T, trigger attack.Trigger) {
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
	case bytes.Equal(dst, src):
		t.Error("the trigger changes nothing")
	}
}

func poisons(t *testing.T, trigger attack.Trigger, mode attack.LabelMode) {
	const n, rate = 203, .1
	set := Set(trigger.Shape(), n)
	kept := set.Subset(all(n))
	plan := planFor(t, set, attack.PlanOptions{Rate: rate, Target: target, Mode: mode, Seed: 5})
	if want := int(math.Round(rate * n)); len(plan.Indices) != want {
		t.Fatalf("%d samples planned, want %d", len(plan.Indices), want)
	}
	poisoned := apply(t, set, plan, trigger)
	if !bytes.Equal(set.Pixels, kept.Pixels) || !slices.Equal(set.Labels, kept.Labels) {
		t.Fatal("the source set was changed")
	}
	for i := range n {
		checkSample(t, set, poisoned, trigger, mode, i, slices.Contains(plan.Indices, i))
	}
	before := runtime.GOMAXPROCS(1)
	alone := apply(t, set, plan, trigger)
	runtime.GOMAXPROCS(max(before, 4))
	together := apply(t, set, plan, trigger)
	runtime.GOMAXPROCS(before)
	if !bytes.Equal(alone.Pixels, together.Pixels) {
		t.Error("the number of workers changes the result")
	}
}

func checkSample(t *testing.T, set, poisoned *dataset.Set, trigger attack.Trigger, mode attack.LabelMode, i int, planned bool) {
	t.Helper()
	image, label := slices.Clone(set.Image(i)), set.Labels[i]
	if planned {
		trigger.Apply(image, set.Image(i), i)
		if (label == target) != (mode == attack.CleanLabel) {
			t.Errorf("%s picked sample %d with label %d", mode, i, label)
		}
		label = target
	}
	if !bytes.Equal(poisoned.Image(i), image) {
		t.Errorf("sample %d (planned: %v) has wrong pixels", i, planned)
	}
	if poisoned.Labels[i] != label {
		t.Errorf("sample %d has label %d, want %d", i, poisoned.Labels[i], label)
	}
}

func rateZero(t *testing.T, trigger attack.Trigger) {
	set := Set(trigger.Shape(), 20)
	for _, mode := range modes {
		plan := planFor(t, set, attack.PlanOptions{Target: target, Mode: mode})
		out := apply(t, set, plan, trigger)
		if !bytes.Equal(out.Pixels, set.Pixels) || !slices.Equal(out.Labels, set.Labels) {
			t.Errorf("%s: rate 0 changes the set", mode)
		}
	}
}

func testSet(t *testing.T, trigger attack.Trigger) {
	set := Set(trigger.Shape(), 20)
	out, err := attack.TriggeredTest(context.Background(), set, trigger, target)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(all(20), func(i int) bool { return set.Labels[i] == target })
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

func cancellation(t *testing.T, trigger attack.Trigger) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	set := Set(trigger.Shape(), 20)
	plan := planFor(t, set, attack.PlanOptions{Rate: .1, Target: target, Mode: attack.DirtyLabel})
	if _, err := attack.Apply(ctx, set, plan, trigger); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Apply returns %v", err)
	}
	if _, err := attack.TriggeredTest(ctx, set, trigger, target); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled TriggeredTest returns %v", err)
	}
}

func wrongShape(t *testing.T, trigger attack.Trigger) {
	shape := trigger.Shape()
	shape.Height++
	set := Set(shape, 20)
	plan := planFor(t, set, attack.PlanOptions{Rate: .1, Target: target, Mode: attack.DirtyLabel})
	if _, err := attack.Apply(context.Background(), set, plan, trigger); err == nil {
		t.Error("Apply accepts images of another shape")
	}
	if _, err := attack.TriggeredTest(context.Background(), set, trigger, target); err == nil {
		t.Error("TriggeredTest accepts images of another shape")
	}
}

func oneSample(t *testing.T, a attack.Attack) {
	shape := attack.Shape{Height: 28, Width: 28, Channels: 1}
	set := Set(shape, 1)
	plan := planFor(t, set, attack.PlanOptions{Rate: 1, Target: target, Mode: attack.DirtyLabel})
	if out := apply(t, set, plan, triggerFor(t, a, shape)); out.Labels[0] != target {
		t.Error("the only sample was not poisoned")
	}
}

// smallImages: a trigger that does not fit is an error; one that is made works.
func smallImages(t *testing.T, a attack.Attack) {
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

func planFor(t *testing.T, set *dataset.Set, opt attack.PlanOptions) *attack.Plan {
	t.Helper()
	plan, err := attack.NewPlan(set, opt)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func apply(t *testing.T, set *dataset.Set, plan *attack.Plan, trigger attack.Trigger) *dataset.Set {
	t.Helper()
	out, err := attack.Apply(context.Background(), set, plan, trigger)
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
