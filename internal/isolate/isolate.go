// Package isolate splits the suspicious set D into the isolated set D_s and
// the retained set D_c (Li & Gao 2024, § 4, third step).
//
// Two ideas are apart: a Ranking says how suspicious every sample looks, a
// Selection says how many of them, and which, are isolated. Both see labels
// and losses only, never which samples are poisoned.
package isolate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"cordon/internal/recipe"
)

// Evidence is what training leaves behind about every sample of D.
type Evidence struct {
	// Labels are the samples' labels as given, each at least 0.
	Labels []int32
	// Base and Partial hold the samples' cross-entropy under M_s and M′, one
	// row per epoch, oldest first; an epoch that was not recorded is nil. A
	// model nobody ranks by may have none.
	Base, Partial [][]float32
}

// Ranking says how suspicious the samples look.
type Ranking interface {
	// Scores returns one number per sample; higher is more suspicious. NaN, for
	// a sample whose loss is not a number, is the least suspicious of all.
	Scores(ev Evidence) ([]float64, error)
}

// Selection decides which samples are isolated.
type Selection interface {
	// Select returns the indices of the isolated samples, most suspicious
	// first. labels belong to the same samples as scores.
	Select(scores []float64, labels []int32) ([]int, error)
}

// NewRanking returns the ranking that a valid recipe names.
func NewRanking(o recipe.Isolate) (Ranking, error) {
	reduce, err := newReduction(o.Epochs)
	if err != nil {
		return nil, err
	}
	var r Ranking
	switch o.Ranking {
	case "loss", "high-loss":
		if o.Model != "partial" && o.Model != "base" {
			return nil, fmt.Errorf("unknown model %q to rank by", o.Model)
		}
		r = rankLoss{base: o.Model == "base", high: o.Ranking == "high-loss", reduce: reduce}
	case "gap":
		r = rankGap{reduce}
	default:
		return nil, fmt.Errorf("unknown ranking %q", o.Ranking)
	}
	switch o.Scope {
	case "all":
		return r, nil
	case "class":
		return withinClass{r}, nil
	}
	return nil, fmt.Errorf("unknown scope %q of a ranking", o.Scope)
}

// NewSelection returns the selection that a valid recipe names.
func NewSelection(o recipe.Isolate) (Selection, error) {
	if o.Selection == "rate" {
		return selectRate{o.Rate}, nil
	}
	return nil, fmt.Errorf("unknown selection %q", o.Selection)
}

// Order returns the indices of the scores, most suspicious first: by falling
// score, equal ones by index, NaN last.
func Order(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(scores[b], scores[a]) // cmp puts NaN below −Inf
	})
	return order
}

// reduction makes one loss per sample of the rows of recorded epochs.
type reduction func(epochs [][]float32) []float64

func newReduction(name string) (reduction, error) {
	switch name {
	case "last", "clearest":
		return func(epochs [][]float32) []float64 {
			row := epochs[Epoch(name, epochs)-1]
			losses := make([]float64, len(row))
			for i, loss := range row {
				losses[i] = float64(loss)
			}
			return losses
		}, nil
	case "mean":
		return geometricMean, nil
	}
	return nil, fmt.Errorf("unknown choice of epochs %q", name)
}

// Epoch is the number, from 1, of the epoch whose losses a recipe's
// isolate.epochs takes of a model's rows; nil rows were not recorded, the last
// always is. For "mean", which takes all, it is the last.
//
// The clearest epoch sets the lowest tenth of the losses furthest apart: by the
// ratio of the other samples' mean loss to theirs. The trigger is easiest just
// after it was learned; later the easy clean samples catch up.
func Epoch(choice string, epochs [][]float32) int {
	best, at := math.Inf(-1), len(epochs)
	if choice != "clearest" {
		return at
	}
	for i, row := range epochs {
		if row == nil {
			continue
		}
		if apart := separation(row); apart > best {
			best, at = apart, i+1
		}
	}
	return at
}

// separation is the logarithm of that ratio; NaN where a loss is not a number.
func separation(losses []float32) float64 {
	sorted := slices.Sorted(slices.Values(losses))
	low := max(1, len(sorted)/10)
	var sums [2]float64
	for i, loss := range sorted {
		if i < low {
			sums[0] += float64(loss)
		} else {
			sums[1] += float64(loss)
		}
	}
	return math.Log(sums[1]) - math.Log(sums[0])
}

// geometricMean is NaN where any epoch's loss is. The arithmetic mean would be
// nearly the worst epoch's: from one to the next, losses differ by orders of
// magnitude.
func geometricMean(epochs [][]float32) []float64 {
	losses := make([]float64, len(epochs[0]))
	for _, row := range epochs {
		for i, loss := range row {
			losses[i] += math.Log(max(float64(loss), math.SmallestNonzeroFloat32))
		}
	}
	for i, sum := range losses {
		losses[i] = math.Exp(sum / float64(len(epochs)))
	}
	return losses
}

// losses reduces the rows of one model after checking them.
func (ev Evidence) losses(model string, epochs [][]float32, reduce reduction) ([]float64, error) {
	epochs = slices.DeleteFunc(slices.Clone(epochs), func(row []float32) bool { return row == nil })
	if len(epochs) == 0 {
		return nil, fmt.Errorf("no losses of the %s model are recorded", model)
	}
	for i, row := range epochs {
		if len(row) != len(ev.Labels) {
			return nil, fmt.Errorf("epoch %d of the %s model has %d losses for %d samples", i+1, model, len(row), len(ev.Labels))
		}
	}
	return reduce(epochs), nil
}

// withinClass replaces a score by the fraction of its class that looks less
// suspicious, so that every class has its own most suspicious samples. Equal
// scores share their mean rank; NaN stays NaN and counts for no class.
type withinClass struct{ Ranking }

func (r withinClass) Scores(ev Evidence) ([]float64, error) {
	scores, err := r.Ranking.Scores(ev)
	if err != nil {
		return nil, err
	}
	classes := map[int32][]int{}
	for i, s := range scores {
		if !math.IsNaN(s) {
			classes[ev.Labels[i]] = append(classes[ev.Labels[i]], i)
		}
	}
	for _, members := range classes {
		toFractions(scores, members)
	}
	return scores, nil
}

// toFractions replaces the members' scores by (mean rank − ½) / members,
// ranks from 1 for the least suspicious: strictly between 0 and 1.
func toFractions(scores []float64, members []int) {
	slices.SortFunc(members, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	n := len(members)
	for begin := 0; begin < n; {
		end := begin + 1
		for end < n && scores[members[end]] == scores[members[begin]] {
			end++
		}
		fraction := float64(begin+end) / 2 / float64(n)
		for _, i := range members[begin:end] {
			scores[i] = fraction
		}
		begin = end
	}
}

// Division is D ranked and divided.
type Division struct {
	Scores   []float64 // per sample, higher is more suspicious
	Isolated []int     // D_s, ascending
	Retained []int     // D_c, ascending
}

// Divide ranks the samples and divides them as a recipe says.
func Divide(o recipe.Isolate, ev Evidence) (Division, error) {
	ranking, err := NewRanking(o)
	if err != nil {
		return Division{}, err
	}
	selection, err := NewSelection(o)
	if err != nil {
		return Division{}, err
	}
	var d Division
	if d.Scores, err = ranking.Scores(ev); err != nil {
		return d, fmt.Errorf("rank samples: %w", err)
	}
	if d.Isolated, err = selection.Select(d.Scores, ev.Labels); err != nil {
		return d, fmt.Errorf("isolate samples: %w", err)
	}
	slices.Sort(d.Isolated)
	isolated := make([]bool, len(ev.Labels))
	for _, i := range d.Isolated {
		isolated[i] = true
	}
	for i, out := range isolated {
		if !out {
			d.Retained = append(d.Retained, i)
		}
	}
	return d, nil
}
