package attack_test

import (
	"bytes"
	"context"
	"hash/crc32"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/dataset"
	"cordon/internal/catalog"
)

var (
	grey   = attack.Shape{Height: 28, Width: 28, Channels: 1}
	colour = attack.Shape{Height: 32, Width: 32, Channels: 3}
)

// part is one of BadNets.
func part(mode attack.LabelMode, target int, rate float64) attack.Part {
	p := attack.PartOf(attack.DefaultBadNets(), target, rate)
	p.Mode = mode
	return p
}

// noise is label noise.
func noise(rate float64) attack.Part {
	p := attack.PartOf(attack.DefaultNone(), -1, rate)
	p.Mode = attack.LabelNoise
	return p
}

func with(p attack.Part, change func(*attack.Part)) attack.Part {
	change(&p)
	return p
}

func TestPlanErrors(t *testing.T) {
	set := attacktest.Set(grey, 50) // 5 classes of 10
	dirty, clean := attack.DirtyLabel, attack.CleanLabel
	for _, c := range []struct {
		name  string
		want  string
		parts []attack.Part
	}{
		{"rate above 1", "must be 0 to 1", []attack.Part{part(dirty, 0, 1.01)}},
		{"rate below 0", "must be 0 to 1", []attack.Part{part(dirty, 0, -.1)}},
		{"rate not a number", "must be 0 to 1", []attack.Part{part(dirty, 0, math.NaN())}},
		{"cover rate", "cover rate 2: must be 0 to 1", []attack.Part{with(part(dirty, 0, .1), func(p *attack.Part) { p.CoverRate = 2 })}},
		{"rate of no sample", "rounds to none", []attack.Part{part(dirty, 0, .001)}},
		{"cover rate of no sample", "cover rate 0.001 of 50", []attack.Part{with(part(dirty, 0, .1), func(p *attack.Part) { p.CoverRate = .001 })}},
		{"too many clean-label", `is 15, but there are only 10 of the target class "class 0"`, []attack.Part{part(clean, 0, .3)}},
		{"too many dirty-label", `is 45, but there are only 40 outside the target class`, []attack.Part{part(dirty, 0, .9)}},
		{"too many covers", `cover rate 0.5 of 50 samples is 25, but there are only 20 left outside`, []attack.Part{with(part(dirty, 0, .4), func(p *attack.Part) { p.CoverRate = .5 })}},
		{"too many together", `part 2: poison rate 0.5 of 50 samples is 25, but there are only 20 left (all-to-all)`, []attack.Part{part(dirty, 0, .6), part(attack.AllToAll, -1, .5)}},
		{"no such class", "labels 0 to 4", []attack.Part{part(dirty, 5, .1)}},
		{"negative class", "negative", []attack.Part{part(dirty, -1, .1)}},
		{"target of all-to-all", "all-to-all has no target", []attack.Part{part(attack.AllToAll, 0, .1)}},
		{"no mode", "dirty-label, clean-label", []attack.Part{part("", 0, .1)}},
		{"noise with a trigger", "the attack must be none", []attack.Part{part(attack.LabelNoise, -1, .1)}},
		{"clean-label without a trigger", "changes nothing", []attack.Part{with(noise(.1), func(p *attack.Part) { p.Mode, p.Target = clean, 0 })}},
		{"covers without a trigger", "change nothing", []attack.Part{with(noise(.1), func(p *attack.Part) { p.CoverRate = .1 })}},
		{"trigger in the test alone", "no backdoor", []attack.Part{with(part(dirty, 0, .1), func(p *attack.Part) { p.Train.Name = attack.NoTrigger })}},
		{"no name", "no name", []attack.Part{with(part(dirty, 0, .1), func(p *attack.Part) { p.Test.Name = "" })}},
		{"too many parts", "at most 100", slices.Repeat([]attack.Part{part(dirty, 0, 0)}, 101)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := attack.Plan(t.Context(), set, 0, c.parts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	one := &dataset.Set{Classes: []string{"a"}, Height: 1, Width: 1, Channels: 1, Pixels: []byte{0}, Labels: []int32{0}}
	if _, err := attack.Plan(t.Context(), one, 0, []attack.Part{noise(1)}); err == nil {
		t.Error("label noise in a single class is accepted")
	}
}

func TestPlanDraw(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 1, Width: 1, Channels: 1}, 5000)
	draw := func(rate, covers float64, seed uint64) []int {
		p := with(part(attack.DirtyLabel, 3, rate), func(p *attack.Part) { p.CoverRate = covers })
		truth, err := attack.Plan(t.Context(), set, seed, []attack.Part{p})
		if err != nil {
			t.Fatal(err)
		}
		return truth.Indices(attack.Poisoned)
	}
	large, small := draw(.2, 0, 1), draw(.05, 0, 1)
	if len(large) != 1000 || len(small) != 250 {
		t.Fatalf("%d and %d samples, want 1000 and 250", len(large), len(small))
	}
	if slices.ContainsFunc(small, func(i int) bool { return !slices.Contains(large, i) }) {
		t.Error("the smaller rate is not a part of the larger")
	}
	if !slices.Equal(large, draw(.2, .5, 1)) {
		t.Error("covers change which samples are poisoned")
	}
	if slices.Equal(large, draw(.2, 0, 2)) {
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

// TestStratified gives every class its share, at every rate, of what earlier parts left.
func TestStratified(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 1, Width: 1, Channels: 1}, 1000)
	for i := range set.Labels { // 400, 100, 200, 100 and 200 samples
		set.Labels[i] = []int32{0, 0, 0, 0, 1, 2, 2, 3, 4, 4}[i%10]
	}
	draw := func(rate float64, seed uint64) []int {
		p := with(part(attack.DirtyLabel, 3, rate), func(p *attack.Part) { p.Stratified, p.CoverRate = true, .09 })
		truth, err := attack.Plan(t.Context(), set, seed, []attack.Part{p})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			indices []int
			share   float64 // of a class
		}{{truth.Indices(attack.Poisoned), rate / .9}, {truth.Indices(attack.Cover), .1}} {
			counts := map[int32]int{}
			for _, i := range c.indices {
				counts[set.Labels[i]]++
			}
			for class, size := range map[int32]float64{0: 400, 1: 100, 2: 200, 3: 0, 4: 200} {
				if got := float64(counts[class]); math.Abs(got-size*c.share) > 1 {
					t.Errorf("rate %v: class %d gives %v of %v", rate, class, got, size)
				}
			}
		}
		return truth.Indices(attack.Poisoned)
	}
	large := draw(.45, 1) // 200, 50, 100 and 100
	for _, i := range draw(.05, 1) {
		if !slices.Contains(large, i) {
			t.Error("the smaller rate is not a part of the larger")
		}
	}
	if slices.Equal(large, draw(.45, 2)) {
		t.Error("two seeds draw the same samples")
	}
}

// TestPlanStays pins the drawn samples: measured results name them by seed.
func TestPlanStays(t *testing.T) {
	set := attacktest.Set(grey, 100)
	truth, err := attack.Plan(t.Context(), set, 7, []attack.Part{with(part(attack.DirtyLabel, 3, .04), func(p *attack.Part) { p.CoverRate = .03 }), noise(.04)})
	if err != nil {
		t.Fatal(err)
	}
	var given []int32
	for _, c := range truth.Changed {
		if c.Part == 1 {
			given = append(given, c.Given)
		}
	}
	for _, c := range []struct{ got, want []int }{
		{truth.Indices(attack.Poisoned), []int{5, 26, 52, 66, 70, 71, 79, 82}},
		{truth.Indices(attack.Cover), []int{20, 25, 57}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("seed 7 draws %v, want %v", c.got, c.want)
		}
	}
	stratified := with(part(attack.DirtyLabel, 3, .06), func(p *attack.Part) { p.Stratified = true })
	if truth, err = attack.Plan(t.Context(), set, 7, []attack.Part{stratified}); err != nil {
		t.Fatal(err)
	}
	if got, want := truth.Indices(attack.Poisoned), []int{17, 52, 70, 71, 79, 80}; !slices.Equal(got, want) {
		t.Errorf("seed 7 draws %v of each class, want %v", got, want)
	}
	if want := []int32{4, 2, 2, 1}; !slices.Equal(given, want) {
		t.Errorf("noise of seed 7 is %v, want %v", given, want)
	}
}

// TestTriggersStay pins what the triggers draw and compute: measured results name
// them by parameters.
func TestTriggersStay(t *testing.T) {
	image := attacktest.Set(colour, 1).Image(0)
	for _, c := range []struct {
		name, param, value string
		want               uint32 // CRC-32 of the triggered image
	}{
		{"badnets", "size", "3", 0x06c172ed},
		{"blend", "pattern", "blocks", 0xd80f452f},
		{"blend", "pattern", "noise", 0x48624259},
		{"sig", "delta", "40", 0x99fc203e},
		{"wanet", "strength", "2", 0x1d7dba50},
		{"wanet", "noise", "1", 0x9b8cfea6},
		{"wanet", "seed", "1", 0xd3c37c98},
	} {
		a, err := catalog.AttackFromSpec(attack.Spec{Name: c.name, Params: map[string]string{c.param: c.value}})
		if err != nil {
			t.Fatal(err)
		}
		trigger, err := a.Trigger(colour)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, len(image))
		trigger.Apply(out, image, 5)
		if got := crc32.ChecksumIEEE(out); got != c.want {
			t.Errorf("%s with %s=%s makes %#08x, want %#08x", c.name, c.param, c.value, got, c.want)
		}
	}
}

// TestSeveralParts: parts are disjoint, and each does what it says alone.
func TestSeveralParts(t *testing.T) {
	set := attacktest.Set(colour, 200)
	weak, strong := attack.DefaultBlend(), attack.DefaultBlend()
	weak.Alpha = .1
	parts := []attack.Part{
		part(attack.DirtyLabel, 3, .1),
		part(attack.DirtyLabel, 1, .1),
		with(attack.PartOf(weak, 2, .1), func(p *attack.Part) { p.Test, p.CoverRate = attack.SpecOf(strong), .2 }),
		noise(.1),
	}
	truth, err := attack.Plan(t.Context(), set, 3, parts)
	if err != nil {
		t.Fatal(err)
	}
	out, err := truth.Apply(context.Background(), set, catalog.AttackFromSpec)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range set.Labels {
		if !bytes.Equal(set.Image(i), out.Image(i)) || set.Labels[i] != out.Labels[i] {
			changed++
		}
	}
	if len(truth.Changed) != 120 || changed != 120 {
		t.Errorf("%d samples planned and %d changed, want 120", len(truth.Changed), changed)
	}
	for i, label := range map[int]int32{0: 3, 1: 1, 2: 2} {
		if got := parts[i].Goal(4, 5); got != label {
			t.Errorf("part %d wants label %d, not %d", i, got, label)
		}
	}
	if all := part(attack.AllToAll, -1, .1); all.Goal(2, 5) != 3 || all.Goal(4, 5) != 0 {
		t.Error("all-to-all does not want the next class")
	}
	if parts[3].Goal(4, 5) != 4 || parts[3].HasGoal() {
		t.Error("label noise has a goal")
	}
	trigger, err := parts[2].TestTrigger(colour, catalog.AttackFromSpec)
	if err != nil {
		t.Fatal(err)
	}
	want, err := strong.Trigger(colour)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, colour.Bytes()), make([]byte, colour.Bytes())
	trigger.Apply(a, set.Image(0), 0)
	want.Apply(b, set.Image(0), 0)
	if !bytes.Equal(a, b) {
		t.Error("the test trigger is not the one of the test")
	}
}

// TestCoversOfWaNet: each cover is bent in its own way.
func TestCoversOfWaNet(t *testing.T) {
	noisy := attack.DefaultWaNet()
	noisy.Noise = 1
	p := with(attack.PartOf(attack.DefaultWaNet(), 3, .1), func(p *attack.Part) { p.Cover, p.CoverRate = attack.SpecOf(noisy), .2 })
	set := attacktest.Set(grey, 50)
	copy(set.Image(1), set.Image(0))
	trigger, err := noisy.Trigger(grey)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, grey.Bytes()), make([]byte, grey.Bytes())
	trigger.Apply(a, set.Image(0), 0)
	trigger.Apply(b, set.Image(1), 1)
	if bytes.Equal(a, b) {
		t.Error("two images have the same noise")
	}
	if _, err := attack.Plan(t.Context(), set, 0, []attack.Part{p}); err != nil {
		t.Error(err)
	}
}

// poisoned returns a set, its truth and its poisoned copy.
func poisoned(t *testing.T, p attack.Part, shape attack.Shape) (*dataset.Set, *attack.Truth, *dataset.Set) {
	t.Helper()
	set := attacktest.Set(shape, 100)
	truth, err := attack.Plan(t.Context(), set, 0, []attack.Part{p})
	if err != nil {
		t.Fatal(err)
	}
	out, err := truth.Apply(context.Background(), set, catalog.AttackFromSpec)
	if err != nil {
		t.Fatal(err)
	}
	return set, truth, out
}

// Of a set that is larger than memory every pass counts.
func TestApplyKnowsTheSetOfItsPlan(t *testing.T) {
	set, reads := attacktest.Set(grey, 100), 0
	set = set.WithImages(func(int) []byte { reads++; return make([]byte, 28*28) })
	truth, err := attack.Plan(t.Context(), set, 0, []attack.Part{part(attack.DirtyLabel, 3, .1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := truth.Apply(t.Context(), set, catalog.AttackFromSpec); err != nil {
		t.Fatal(err)
	}
	if reads != 100 {
		t.Errorf("%d images read to plan and apply, want 100", reads)
	}
}

func TestApplyRefuses(t *testing.T) {
	set, truth, _ := poisoned(t, part(attack.DirtyLabel, 3, .1), grey)
	pixels := set.WithImages(func(int) []byte { return make([]byte, set.ImageBytes()) })
	classes := set.WithImages(set.Image)
	classes.Classes = append([]string{"other"}, set.Classes[1:]...)
	labels := set.WithImages(set.Image)
	for i := range labels.Labels {
		labels.Labels[i] = 4
	}
	for _, c := range []struct {
		other *dataset.Set
		want  string
	}{
		{pixels, "other data"},
		{labels, "other data"},
		{set.Subset([]int{0, 1, 2}), "other size or classes"},
		{classes, "other size or classes"},
	} {
		if _, err := truth.Apply(context.Background(), c.other, catalog.AttackFromSpec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("another set: %v, want %q", err, c.want)
		}
	}
	for name, change := range map[string]func(*attack.Truth){
		"beyond the end": func(t *attack.Truth) { t.Changed[9].Source = 100 },
		"wrong label":    func(t *attack.Truth) { t.Changed[9].Given = 0 },
		"unknown attack": func(t *attack.Truth) { t.Parts[0].Train.Name = "nosuch" },
		"too large":      func(t *attack.Truth) { t.Parts[0].Train.Params["size"] = "29" },
	} {
		_, wrong, _ := poisoned(t, part(attack.DirtyLabel, 3, .1), grey)
		change(wrong)
		if _, err := wrong.Apply(context.Background(), set, catalog.AttackFromSpec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestApplyForgetsFiles(t *testing.T) {
	set, truth, _ := poisoned(t, part(attack.DirtyLabel, 3, .1), grey)
	set.Files = make([]string, set.Len())
	out, err := truth.Apply(context.Background(), set, catalog.AttackFromSpec)
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
		if _, err := attack.TriggeredTest(only, trigger, part(attack.DirtyLabel, target, .1)); err == nil {
			t.Errorf("target %d accepted", target)
		}
	}
}

func TestPreview(t *testing.T) {
	for _, shape := range []attack.Shape{grey, colour} {
		for _, c := range []struct {
			part          attack.Part
			columns, rows int
			titles        int
		}{
			{part(attack.DirtyLabel, 3, .1), 12, 3, 1}, // 10 samples, 4 a row
			{part(attack.DirtyLabel, 3, .02), 6, 1, 1},
			{with(part(attack.DirtyLabel, 3, .1), func(p *attack.Part) { p.CoverRate = .1 }), 12, 2, 2},
		} {
			set, truth, out := poisoned(t, c.part, shape)
			var file bytes.Buffer
			if err := attack.Preview(&file, set, out, truth); err != nil {
				t.Fatal(err)
			}
			picture, err := png.Decode(&file)
			if err != nil {
				t.Fatal(err)
			}
			scale := (96 + shape.Width - 1) / shape.Width
			width, height := c.columns*(scale*shape.Width+4)+4, c.rows*(scale*shape.Height+4)+4+16*c.titles
			if size := picture.Bounds().Size(); size.X != width || size.Y != height {
				t.Errorf("%v: picture of %v, want %d×%d", c.part, size, width, height)
			}
			// BadNets leaves the first pixel, so its difference is grey.
			if r, _, _, _ := picture.At(4+2*(scale*shape.Width+4), 20).RGBA(); r>>8 != 128 {
				t.Errorf("no difference is shown as %d, want 128", r>>8)
			}
		}
	}
}

func TestPreviewTest(t *testing.T) {
	set := attacktest.Set(grey, 20)
	trigger, err := attack.DefaultBadNets().Trigger(grey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		parts  []attack.Part
		height int // 0 for an error
	}{
		{[]attack.Part{part(attack.DirtyLabel, 3, .1)}, 4 + 16 + 3*(4*28+4)}, // 16 images, 12 of them shown
		{[]attack.Part{part(attack.AllToAll, -1, .1), noise(.1), part(attack.CleanLabel, 2, .1)}, 4 + 2*16 + 2*(4*28+4)},
		{[]attack.Part{noise(.1)}, 0},
		{nil, 0},
	} {
		var file bytes.Buffer
		err := attack.PreviewTest(&file, set, c.parts, []attack.Trigger{trigger, nil, trigger}[:len(c.parts)])
		if (err != nil) != (c.height == 0) {
			t.Errorf("%v: %v", c.parts, err)
		}
		if err != nil {
			continue
		}
		picture, err := png.Decode(&file)
		if err != nil {
			t.Fatal(err)
		}
		if got := picture.Bounds().Dy(); got != c.height {
			t.Errorf("%v: picture of height %d, want %d", c.parts, got, c.height)
		}
	}
}

func TestPreviewErrors(t *testing.T) {
	set, truth, out := poisoned(t, part(attack.DirtyLabel, 3, .1), grey)
	_, nothing, _ := poisoned(t, part(attack.DirtyLabel, 3, 0), grey)
	for name, preview := range map[string]func(w *bytes.Buffer) error{
		"no poison":    func(w *bytes.Buffer) error { return attack.Preview(w, set, set, nothing) },
		"another size": func(w *bytes.Buffer) error { return attack.Preview(w, set, out.Subset([]int{1}), truth) },
	} {
		var file bytes.Buffer
		if err := preview(&file); err == nil || file.Len() > 0 {
			t.Errorf("%s: error %v after %d bytes", name, err, file.Len())
		}
	}
}
