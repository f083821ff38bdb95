package isolate

import (
	"math"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cordon/internal/recipe"
	"cordon/internal/seed"
)

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

// same compares with NaN equal to NaN.
func same(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !(math.Abs(a[i]-b[i]) < 1e-12) && !(math.IsNaN(a[i]) && math.IsNaN(b[i])) {
			return false
		}
	}
	return true
}

func TestScores(t *testing.T) {
	f := float32(math.Inf(1))
	n := float32(math.NaN())
	ev := Evidence{
		Labels:  []int32{0, 0, 1, 1, 1},
		Base:    [][]float32{{1, 1, 1, 1, 1}, {4, 2, 6, 8, f}},
		Partial: [][]float32{{4, 1, 2, n, 0}, {2, 3, 2, 8, f}},
	}
	tests := []struct {
		ranking, model, scope, epochs string
		want                          []float64
	}{
		{"loss", "partial", "all", "last", []float64{-2, -3, -2, -8, -inf}},
		{"loss", "base", "all", "last", []float64{-4, -2, -6, -8, -inf}},
		{"loss", "partial", "all", "mean", []float64{-math.Sqrt(8), -math.Sqrt(3), -2, nan, -inf}},
		{"loss", "base", "all", "mean", []float64{-2, -math.Sqrt(2), -math.Sqrt(6), -math.Sqrt(8), -inf}},
		{"high-loss", "partial", "all", "last", []float64{2, 3, 2, 8, inf}},
		{"gap", "partial", "all", "last", []float64{2, -1, 4, 0, nan}},
		{"gap", "partial", "all", "mean", []float64{2 - math.Sqrt(8), math.Sqrt(2) - math.Sqrt(3), math.Sqrt(6) - 2, nan, nan}},
		{"loss", "partial", "class", "last", []float64{.75, .25, 5. / 6, .5, 1. / 6}},
		{"high-loss", "partial", "class", "last", []float64{.25, .75, 1. / 6, .5, 5. / 6}},
		{"loss", "partial", "class", "mean", []float64{.25, .75, .75, nan, .25}},
		{"gap", "partial", "class", "mean", []float64{.25, .75, .5, nan, nan}},
	}
	for _, test := range tests {
		r, err := NewRanking(recipe.Isolate{Ranking: test.ranking, Model: test.model, Scope: test.scope, Epochs: test.epochs})
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Scores(ev)
		if err != nil || !same(got, test.want) {
			t.Errorf("%s %s %s %s: %v, %v, want %v", test.ranking, test.model, test.scope, test.epochs, got, err, test.want)
		}
	}
	if ev.Partial[1][0] != 2 {
		t.Error("a ranking changed the evidence")
	}
}

// Epoch 2 of three sets two of twenty samples furthest apart.
func TestClearestEpoch(t *testing.T) {
	rows := make([][]float32, 3)
	for e, low := range []float32{.5, 1e-6, 1e-3} {
		for i := range 20 {
			loss := 1 + float32(i)/20
			if i == 7 || i == 11 {
				loss = low * (1 + float32(i))
			}
			rows[e] = append(rows[e], loss)
		}
	}
	rows = append(rows, slices.Repeat([]float32{float32(nan)}, 20))
	r, err := NewRanking(recipe.Isolate{Ranking: "loss", Model: "partial", Scope: "all", Epochs: "clearest"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Scores(Evidence{Labels: make([]int32, 20), Partial: rows})
	if err != nil {
		t.Fatal(err)
	}
	for i, loss := range rows[1] {
		if got[i] != -float64(loss) {
			t.Fatalf("sample %d: score %v, want the second epoch's %v", i, got[i], -loss)
		}
	}
	unrecorded := [][]float32{nil, rows[0], rows[1], nil, rows[2]}
	for choice, want := range map[string]int{"clearest": 3, "last": 5, "mean": 5} {
		if got := Epoch(choice, unrecorded); got != want {
			t.Errorf("%s: epoch %d, want %d", choice, got, want)
		}
	}
}

func TestScoresRefuses(t *testing.T) {
	labels := []int32{0, 1}
	full := [][]float32{{1, 2}}
	short := [][]float32{{1, 2}, {1}}
	tests := []struct {
		ranking, model string
		ev             Evidence
		part           string
	}{
		{"loss", "partial", Evidence{Labels: labels, Base: full}, "no losses of the partial model"},
		{"loss", "base", Evidence{Labels: labels, Partial: full}, "no losses of the base model"},
		{"gap", "partial", Evidence{Labels: labels, Partial: full}, "no losses of the base model"},
		{"gap", "partial", Evidence{Labels: labels, Base: full}, "no losses of the partial model"},
		{"loss", "partial", Evidence{Labels: labels, Partial: short}, "epoch 2 of the partial model has 1 losses for 2 samples"},
	}
	for _, test := range tests {
		r, err := NewRanking(recipe.Isolate{Ranking: test.ranking, Model: test.model, Scope: "class", Epochs: "last"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Scores(test.ev); err == nil || !strings.Contains(err.Error(), test.part) {
			t.Errorf("got %v, want %q", err, test.part)
		}
	}
}

func TestSelectRate(t *testing.T) {
	scores := []float64{1, nan, 3, 3, -inf, inf, 2, 3, 0, 1}
	order := []int{5, 2, 3, 7, 6, 0, 9, 8, 4, 1}
	labels := make([]int32, len(scores))
	for rate, count := range map[float64]int{0: 0, .04: 0, .05: 1, .1: 1, .3: 3, .449: 4, .9: 9, 1: 10} {
		s, err := NewSelection(recipe.Isolate{Selection: "rate", Rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Select(scores, labels)
		if err != nil || !reflect.DeepEqual(got, order[:count]) {
			t.Errorf("rate %g: %v, %v, want %v", rate, got, err, order[:count])
		}
	}
	if got, err := (selectRate{.5}).Select(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("no samples: %v, %v", got, err)
	}
	if _, err := (selectRate{.5}).Select(scores, labels[1:]); err == nil {
		t.Error("accepted fewer labels than scores")
	}
	for _, rate := range []float64{-.1, 1.1, nan} {
		if _, err := (selectRate{rate}).Select(scores, labels); err == nil {
			t.Errorf("accepted rate %g", rate)
		}
	}
}

// Every combination that a recipe allows exists, and nothing else.
func TestConstructors(t *testing.T) {
	valid := recipe.Default()
	valid.Base.ScoreEpochs = true
	for _, ranking := range []string{"loss", "high-loss", "gap", "x"} {
		for _, model := range []string{"partial", "base", "x"} {
			for _, scope := range []string{"all", "class", "x"} {
				for _, epochs := range []string{"last", "mean", "clearest", "x"} {
					for _, selection := range []string{"rate", "x"} {
						r := valid
						r.Isolate.Ranking, r.Isolate.Model, r.Isolate.Scope = ranking, model, scope
						r.Isolate.Epochs, r.Isolate.Selection = epochs, selection
						_, errRanking := NewRanking(r.Isolate)
						_, errSelection := NewSelection(r.Isolate)
						if ranking == "gap" && model == "x" {
							continue // the gap uses both models
						}
						if built, allowed := errRanking == nil && errSelection == nil, r.Validate() == nil; built != allowed {
							t.Errorf("%+v: built %v, recipe allows %v", r.Isolate, built, allowed)
						}
					}
				}
			}
		}
	}
}

// Reverse cross-entropy falls with p_y exactly as cross-entropy does.
func TestReverseCrossEntropyRanksTheSame(t *testing.T) {
	const classes, samples, logZero = 10, 500, -4
	random := seed.Stream(1, "test/rce")
	ce, rce := make([]float64, samples), make([]float64, samples)
	for i := range samples {
		p, sum, label := make([]float64, classes), 0., random.IntN(classes)
		for k := range p {
			p[k] = math.Exp(3 * random.NormFloat64())
			sum += p[k]
		}
		for k := range p {
			p[k] /= sum
			if k != label {
				rce[i] -= p[k] * logZero // the label's own term is p_y·ln 1 = 0
			}
		}
		ce[i] = -math.Log(p[label])
	}
	if !reflect.DeepEqual(Order(ce), Order(rce)) {
		t.Error("the two losses order the samples differently")
	}
}

// The defense is blind: what it is built from must not know about attacks.
func TestDoesNotImportAttack(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dep := range strings.Lines(string(out)) {
		switch strings.TrimSpace(dep) {
		case "cordon/attack", "cordon/internal/metric", "cordon/internal/torch":
			t.Errorf("depends on %s", dep)
		}
	}
}
