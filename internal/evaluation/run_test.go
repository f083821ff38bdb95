package evaluation

import (
	"reflect"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
	"cordon/internal/isolate"
	"cordon/internal/recipe"
	"cordon/report"
)

// twoParts is a run on every second sample of a poisoned set.
func twoParts(t *testing.T) (*run, *attack.Truth) {
	t.Helper()
	set := attacktest.Set(attack.Shape{Height: 8, Width: 8, Channels: 1}, 100)
	covered := attack.PartOf(attack.DefaultBadNets(), 3, .1)
	covered.CoverRate = .2
	noise := attack.PartOf(attack.DefaultNone(), -1, .1)
	noise.Mode = attack.LabelNoise
	truth, err := attack.Plan(t.Context(), set, 0, []attack.Part{covered, noise})
	if err != nil {
		t.Fatal(err)
	}
	truth.Poisoned = "poisoned"
	r := &run{report: &report.Report{Data: report.Data{Fingerprint: "poisoned"}}}
	for i := 0; i < set.Len(); i += 2 {
		r.positions = append(r.positions, i)
	}
	r.set = set.Subset(r.positions)
	return r, truth
}

// TestFits: a truth with the right fingerprint must also say what the set holds.
func TestFits(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 8, Width: 8, Channels: 1}, 100)
	for name, c := range map[string]struct {
		change func(*attack.Truth)
		want   string // "" fits
	}{
		"the truth":     {func(*attack.Truth) {}, ""},
		"another size":  {func(t *attack.Truth) { t.Samples++ }, "other size or classes"},
		"other classes": {func(t *attack.Truth) { t.Classes[0] = "other" }, "other size or classes"},
		"another label": {func(t *attack.Truth) { t.Changed[0].Given = 1 }, "says label 1 of sample"},
	} {
		truth, err := attack.Plan(t.Context(), set, 0, []attack.Part{attack.PartOf(attack.DefaultBadNets(), 3, .1)})
		if err != nil {
			t.Fatal(err)
		}
		poisoned, err := truth.Apply(t.Context(), set, catalog.AttackFromSpec)
		if err != nil {
			t.Fatal(err)
		}
		c.change(truth)
		err = fits(truth, poisoned)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPartsAreCountedApart counts by hand what parts counts, on D alone.
func TestPartsAreCountedApart(t *testing.T) {
	r, truth := twoParts(t)
	changed, err := r.changed(truth)
	if err != nil {
		t.Fatal(err)
	}
	division := isolate.Division{Scores: make([]float64, r.set.Len()), Isolated: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}
	want := []report.Part{
		{Attack: "badnets, dirty-label with covers", Target: 3, AUROC: report.Of(.5)}, // equal scores
		{Attack: "label-noise", Target: -1, AUROC: report.Of(.5)},
	}
	poisoned := make([]bool, r.set.Len())
	for _, c := range truth.Changed {
		if c.Index%2 == 1 { // not in D
			continue
		}
		p, isolated := &want[c.Part], c.Index < 20
		all, of := &p.Poisoned, &p.Isolated
		if c.Role == attack.Cover {
			all, of = &p.Covers, &p.IsolatedCovers
		} else {
			poisoned[c.Index/2] = true
		}
		*all++
		if isolated {
			*of++
		}
	}
	got, err := r.parts(changed, division)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got := changed.poisoned(r.set.Len()); !reflect.DeepEqual(got, poisoned) {
		t.Errorf("poisoned are %v, want %v", got, poisoned)
	}
}

// TestEpochsFindThePoison: epochs without losses have no row, and the means are
// those of the two groups.
func TestEpochsFindThePoison(t *testing.T) {
	r := &run{recipe: recipe.Default()}
	r.recipe.Isolate.Rate = .5
	r.losses = isolate.Evidence{Labels: make([]int32, 4), Partial: [][]float32{{1, 5, 7, 3}, nil, {8, 2, 4, 1}}}
	got, err := r.epochs(r.recipe.Isolate, []bool{true, false, false, true})
	want := []report.EpochFound{
		{Epoch: 1, Recall: 1, AUROC: 1, PoisonedLoss: 2, OtherLoss: 6},
		{Epoch: 3, Recall: .5, AUROC: .5, PoisonedLoss: 4.5, OtherLoss: 3},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestTruthOfOtherData(t *testing.T) {
	r, truth := twoParts(t)
	truth.Poisoned = "other"
	if _, err := r.changed(truth); err == nil || !strings.Contains(err.Error(), "other training data") {
		t.Errorf("error %v", err)
	}
	if changed, err := r.changed(nil); err != nil || changed.poisoned(3) != nil {
		t.Errorf("without truth: %v, %v", changed, err)
	}
}

// TestTriggers: only parts with a goal have a trigger for the test.
func TestTriggers(t *testing.T) {
	r, truth := twoParts(t)
	got, err := triggers(r.set, truth)
	if err != nil || len(got) != 2 || got[0] == nil || got[1] != nil {
		t.Errorf("triggers %v, %v", got, err)
	}
	truth.Parts[0].Test.Params["size"] = "9"
	if _, err := triggers(r.set, truth); err == nil || !strings.Contains(err.Error(), "truth file: badnets") {
		t.Errorf("a patch larger than the images: %v", err)
	}
	truth.Classes = truth.Classes[1:]
	if _, err := triggers(r.set, truth); err == nil || !strings.Contains(err.Error(), "other classes") {
		t.Errorf("other classes: %v", err)
	}
}
