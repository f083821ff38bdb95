package attack_test

import (
	"bytes"
	"context"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/dataset"
)

var (
	grey   = attack.Shape{Height: 28, Width: 28, Channels: 1}
	colour = attack.Shape{Height: 32, Width: 32, Channels: 3}
)

func TestNewPlanErrors(t *testing.T) {
	set := attacktest.Set(grey, 50) // 5 classes of 10
	for _, c := range []struct {
		name string
		opt  attack.PlanOptions
		want string
	}{
		{"rate above 1", attack.PlanOptions{Rate: 1.01, Mode: attack.DirtyLabel}, "must be 0 to 1"},
		{"rate below 0", attack.PlanOptions{Rate: -.1, Mode: attack.DirtyLabel}, "must be 0 to 1"},
		{"rate not a number", attack.PlanOptions{Rate: math.NaN(), Mode: attack.DirtyLabel}, "must be 0 to 1"},
		{"rate of no sample", attack.PlanOptions{Rate: .001, Mode: attack.DirtyLabel}, "rounds to none"},
		{"too many clean-label", attack.PlanOptions{Rate: .3, Mode: attack.CleanLabel}, "is 15, but there are only 10"},
		{"too many dirty-label", attack.PlanOptions{Rate: .9, Mode: attack.DirtyLabel}, "is 45, but there are only 40"},
		{"no such class", attack.PlanOptions{Rate: .1, Target: 5, Mode: attack.DirtyLabel}, "labels 0 to 4"},
		{"negative class", attack.PlanOptions{Rate: .1, Target: -1, Mode: attack.DirtyLabel}, "negative"},
		{"no mode", attack.PlanOptions{Rate: .1}, "dirty-label, clean-label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := attack.NewPlan(set, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := attack.NewPlan(&dataset.Set{Classes: []string{"a"}}, attack.PlanOptions{Mode: attack.DirtyLabel}); err != nil {
		t.Errorf("rate 0 of an empty set: %v", err)
	}
}

func TestNewPlanDraw(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 1, Width: 1, Channels: 1}, 5000)
	draw := func(rate float64, seed uint64) []int {
		plan, err := attack.NewPlan(set, attack.PlanOptions{Rate: rate, Target: 3, Mode: attack.DirtyLabel, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return plan.Indices
	}
	large, small := draw(.2, 1), draw(.05, 1)
	if len(large) != 1000 || len(small) != 250 {
		t.Fatalf("%d and %d samples, want 1000 and 250", len(large), len(small))
	}
	if slices.ContainsFunc(small, func(i int) bool { return !slices.Contains(large, i) }) {
		t.Error("the smaller rate is not a part of the larger")
	}
	if slices.Equal(large, draw(.2, 2)) {
		t.Error("two seeds draw the same samples")
	}
	perClass := make([]int, 5)
	for _, i := range large {
		perClass[set.Labels[i]]++
	}
	for class, n := range perClass { // 250 each, deviation 12
		if class != 3 && (n < 190 || n > 310) || class == 3 && n != 0 {
			t.Errorf("class %d has %d poisoned samples: %v", class, n, perClass)
		}
	}
}

// poisoned returns a set, its plan and its poisoned copy.
func poisoned(t *testing.T, a attack.Attack, shape attack.Shape) (*dataset.Set, *attack.Plan, *dataset.Set) {
	t.Helper()
	set := attacktest.Set(shape, 100)
	trigger, err := a.Trigger(shape)
	if err != nil {
		t.Fatal(err)
	}
	opt := attack.DefaultPlanOptions(a) // 10 of 100 samples
	opt.Target = 3
	plan, err := attack.NewPlan(set, opt)
	if err != nil {
		t.Fatal(err)
	}
	out, err := attack.Apply(context.Background(), set, plan, trigger)
	if err != nil {
		t.Fatal(err)
	}
	return set, plan, out
}

func TestApplyRefusesAnotherSetsPlan(t *testing.T) {
	set, plan, _ := poisoned(t, attack.DefaultBadNets(), grey)
	trigger, err := attack.DefaultBadNets().Trigger(grey)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]*attack.Plan{
		"beyond the end": {PlanOptions: plan.PlanOptions, Indices: []int{100}},
		"negative":       {PlanOptions: plan.PlanOptions, Indices: []int{-1}},
		"twice":          {PlanOptions: plan.PlanOptions, Indices: []int{4, 4}},
		"no such class":  {PlanOptions: attack.PlanOptions{Target: 9}},
	} {
		if _, err := attack.Apply(context.Background(), set, wrong, trigger); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestApplyForgetsFiles(t *testing.T) {
	set, plan, _ := poisoned(t, attack.DefaultBadNets(), grey)
	set.Files = make([]string, set.Len())
	trigger, err := attack.DefaultBadNets().Trigger(grey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := attack.Apply(context.Background(), set, plan, trigger)
	if err != nil {
		t.Fatal(err)
	}
	if out.Files != nil || set.Files == nil {
		t.Error("Apply must drop the file names of the copy, and only of the copy")
	}
}

func TestTriggeredTestErrors(t *testing.T) {
	trigger, err := attack.DefaultBadNets().Trigger(grey)
	if err != nil {
		t.Fatal(err)
	}
	only := attacktest.Set(grey, 50).Subset([]int{3, 8, 13}) // all of class 3
	for _, target := range []int{-1, 3, 5} {
		if _, err := attack.TriggeredTest(context.Background(), only, trigger, target); err == nil {
			t.Errorf("target %d accepted", target)
		}
	}
}

func TestPreview(t *testing.T) {
	for _, a := range []attack.Attack{attack.DefaultBadNets(), attack.DefaultBlend(), attack.DefaultSIG()} {
		for _, shape := range []attack.Shape{grey, colour} {
			set, plan, out := poisoned(t, a, shape)
			var file bytes.Buffer
			if err := attack.Preview(&file, set, out, plan, 6); err != nil {
				t.Fatal(err)
			}
			picture, err := png.Decode(&file)
			if err != nil {
				t.Fatal(err)
			}
			scale := 4
			width, height := 6*(scale*shape.Width+4)+4, 3*(scale*shape.Height+4)+4
			if size := picture.Bounds().Size(); size.X != width || size.Y != height {
				t.Errorf("%s: picture of %v, want %d×%d", a.Name(), size, width, height)
			}
			// BadNets leaves the first pixel, so its difference is grey.
			if r, _, _, _ := picture.At(4, 4+2*(scale*shape.Height+4)).RGBA(); a.Name() == "badnets" && r>>8 != 128 {
				t.Errorf("no difference is shown as %d, want 128", r>>8)
			}
		}
	}
}

func TestPreviewErrors(t *testing.T) {
	set, plan, out := poisoned(t, attack.DefaultBadNets(), grey)
	for name, preview := range map[string]func(w *bytes.Buffer) error{
		"no columns":       func(w *bytes.Buffer) error { return attack.Preview(w, set, out, plan, 0) },
		"too many columns": func(w *bytes.Buffer) error { return attack.Preview(w, set, out, plan, 65) },
		"no poison":        func(w *bytes.Buffer) error { return attack.Preview(w, set, out, &attack.Plan{}, 1) },
		"another size":     func(w *bytes.Buffer) error { return attack.Preview(w, set, out.Subset([]int{1}), plan, 1) },
	} {
		var file bytes.Buffer
		if err := preview(&file); err == nil || file.Len() > 0 {
			t.Errorf("%s: error %v after %d bytes", name, err, file.Len())
		}
	}
}
