package metric

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"cordon/internal/seed"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }

// truth returns n samples of which those at the indices are poisoned.
func truth(n int, indices ...int) []bool {
	list := make([]bool, n)
	for _, i := range indices {
		list[i] = true
	}
	return list
}

func TestCuts(t *testing.T) {
	// 1000 samples, scores fall with the index; 20 poisoned: 0–4 and 100–114.
	scores := make([]float64, 1000)
	poisoned := truth(1000, 0, 1, 2, 3, 4)
	for i := range scores {
		scores[i] = -float64(i)
		poisoned[i] = poisoned[i] || i >= 100 && i < 115
	}
	m, err := MeasureIsolation(scores, []int{4, 999, 114, 500}, poisoned)
	if err != nil {
		t.Fatal(err)
	}
	want := []Cut{ // fraction, isolated, found, recall, precision, lift, ceiling
		{.001, 1, 1, .05, 1, 50, 1},
		{.005, 5, 5, .25, 1, 50, 1},
		{.01, 10, 5, .25, .5, 25, 1},
		{.05, 50, 5, .25, .1, 5, .4},
		{.1, 100, 5, .25, .05, 2.5, .2},
		{.2, 200, 20, 1, .1, 5, .1},
	}
	if !reflect.DeepEqual(m.Cuts, want) {
		t.Errorf("cuts %+v, want %+v", m.Cuts, want)
	}
	if set := (Cut{.004, 4, 2, .1, .5, 25, 1}); m.Set != set {
		t.Errorf("set %+v, want %+v", m.Set, set)
	}
	if m.Samples != 1000 || m.Poisoned != 20 || m.PoisonRate != .02 {
		t.Errorf("%d of %d poisoned, rate %g", m.Poisoned, m.Samples, m.PoisonRate)
	}
	m, err = MeasureIsolation(scores, nil, poisoned)
	if empty := (Cut{Ceiling: 1}); err != nil || m.Set != empty {
		t.Errorf("empty set %+v, %v", m.Set, err)
	}
}

func TestAreas(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	tests := []struct {
		name         string
		scores       []float64
		poisoned     []bool
		auroc, auprc float64
	}{
		{"perfect", []float64{4, 3, 2, 1}, truth(4, 0, 1), 1, 1},
		{"reversed", []float64{1, 2, 3, 4}, truth(4, 0, 1), 0, (1./3 + 2./4) / 2},
		{"all tied", []float64{7, 7, 7, 7}, truth(4, 2), .5, .25},
		{"mixed", []float64{4, 3, 2, 1}, truth(4, 0, 2), .75, (1 + 2./3) / 2},
		// Groups 3: {P}, 2: {P, C}, 1: {C}: pairs 2 + (½ + 1) of 4.
		{"tie across", []float64{3, 2, 2, 1}, truth(4, 0, 1), 3.5 / 4, (1 + 2./3) / 2},
		{"infinite", []float64{inf, 0, -inf, nan}, truth(4, 0, 3), .5, (1 + 2./4) / 2},
		{"NaN tied and lowest", []float64{nan, nan, -inf}, truth(3, 0), .25, 1. / 3},
	}
	for _, test := range tests {
		m, err := MeasureIsolation(test.scores, nil, test.poisoned)
		if err != nil || !near(m.AUROC, test.auroc) || !near(m.AUPRC, test.auprc) {
			t.Errorf("%s: AUROC %g, AUPRC %g, %v, want %g and %g", test.name, m.AUROC, m.AUPRC, err, test.auroc, test.auprc)
		}
	}
}

// The definitions by brute force, on scores with many ties.
func TestAreasAgainstPairs(t *testing.T) {
	for round := range uint64(50) {
		random := seed.Stream(round, "test/areas")
		n := 2 + random.IntN(60)
		scores, poisoned := make([]float64, n), make([]bool, n)
		for i := range n {
			scores[i], poisoned[i] = float64(random.IntN(12)), random.IntN(3) == 0
		}
		poisoned[0], poisoned[1] = true, false

		var pairs, wins, points, precision float64
		for i := range n {
			if !poisoned[i] {
				continue
			}
			var above, hits float64
			for j := range n {
				switch {
				case poisoned[j]:
				case scores[i] > scores[j]:
					wins++
				case scores[i] == scores[j]:
					wins += .5
				}
				if !poisoned[j] {
					pairs++
				}
				if scores[j] >= scores[i] {
					above++
					if poisoned[j] {
						hits++
					}
				}
			}
			points++
			precision += hits / above
		}
		m, err := MeasureIsolation(scores, nil, poisoned)
		if err != nil || !near(m.AUROC, wins/pairs) || !near(m.AUPRC, precision/points) {
			t.Errorf("round %d: %g %g, %v, want %g %g", round, m.AUROC, m.AUPRC, err, wins/pairs, precision/points)
		}
	}
}

func TestMeasureIsolationRefuses(t *testing.T) {
	tests := []struct {
		scores   []float64
		isolated []int
		poisoned []bool
		part     string
	}{
		{nil, nil, nil, "0 of 0 are poisoned"},
		{make([]float64, 3), nil, truth(3), "0 of 3 are poisoned"},
		{make([]float64, 1), nil, truth(1, 0), "1 of 1 are poisoned"},
		{make([]float64, 2), nil, truth(3, 0), "2 scores for 3 samples"},
		{make([]float64, 3), []int{3}, truth(3, 0), "sample 3 does not exist"},
		{make([]float64, 3), []int{-1}, truth(3, 0), "sample -1 does not exist"},
		{make([]float64, 3), []int{1, 1}, truth(3, 0), "sample 1 is isolated twice"},
	}
	for _, test := range tests {
		if _, err := MeasureIsolation(test.scores, test.isolated, test.poisoned); err == nil || !strings.Contains(err.Error(), test.part) {
			t.Errorf("got %v, want %q", err, test.part)
		}
	}
}

func TestMeasureBackdoor(t *testing.T) {
	labels := []int32{0, 1, 2, 4, 3}
	clean := []int32{0, 1, 3, 0, 3}
	triggered := []int32{3, 1, 3, 0, 3}
	one := []int32{3, 3, 3, 3, 3}  // target 3: the image of class 3 does not count
	next := []int32{1, 2, 3, 0, 4} // all-to-all
	for _, c := range []struct {
		goals []int32
		want  Backdoor
	}{
		{one, Backdoor{ASR: .5, RA: .25, Floor: .25, Triggered: 4}},
		{next, Backdoor{ASR: .4, RA: .4, Floor: .4, Triggered: 5}},
	} {
		if got, err := MeasureBackdoor(clean, triggered, labels, c.goals); err != nil || got != c.want {
			t.Errorf("goals %v: got %+v, %v, want %+v", c.goals, got, err, c.want)
		}
	}
	for part, call := range map[string]func() error{
		"5 and 4 predictions":      func() error { _, err := MeasureBackdoor(clean, triggered[1:], labels, one); return err },
		"4 and 5 predictions":      func() error { _, err := MeasureBackdoor(clean[1:], triggered, labels, one); return err },
		"4 goals for 5 labels":     func() error { _, err := MeasureBackdoor(clean, triggered, labels, one[1:]); return err },
		"no goal for any of 5":     func() error { _, err := MeasureBackdoor(clean, triggered, labels, labels); return err },
		"accuracy of no images":    func() error { _, err := Accuracy(nil, nil); return err },
		"4 predictions for 5 labe": func() error { _, err := Accuracy(clean[1:], labels); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
}
