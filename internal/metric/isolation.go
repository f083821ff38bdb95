// Package metric computes what joins results with the truth: how well the
// isolated set covers the poison, and what a model does with and without the
// trigger (Li & Gao 2024, § 5.4, and beyond).
//
// All figures are fractions and finite: where one is not defined, the
// functions return an error instead.
package metric

import (
	"fmt"
	"math"

	"cordon/internal/isolate"
)

// cutFractions are the shares of all samples at which a ranking is measured.
var cutFractions = [...]float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.2}

// Cut measures one isolated set against the truth. An empty set has recall,
// precision and lift 0.
type Cut struct {
	Fraction  float64 // isolated / all samples
	Isolated  int     // samples in the set
	Found     int     // of them poisoned
	Recall    float64 // Found / all poisoned samples
	Precision float64 // Found / Isolated
	Lift      float64 // Precision / poison rate; 1 is what chance gives
	// Ceiling is the highest precision that a set of this size can have:
	// poison rate / Fraction, at most 1.
	Ceiling float64
}

// Isolation measures a ranking and the set that was isolated by it.
type Isolation struct {
	Samples, Poisoned int
	PoisonRate        float64 // Poisoned / Samples
	Cuts              []Cut   // the top .1, .5, 1, 5, 10 and 20 % of the ranking
	Set               Cut     // the isolated set itself
	// AUROC is the probability that a poisoned sample scores higher than a
	// clean one; equal scores count one half.
	AUROC float64
	// AUPRC is the area under the precision-recall curve as average
	// precision: Σ (R_n − R_{n−1})·P_n over the distinct scores.
	AUPRC float64
}

// MeasureIsolation joins the scores of a ranking (higher is more suspicious;
// NaN is lowest) and the indices of the isolated samples with the truth,
// poisoned. Both poisoned and clean samples must be there.
func MeasureIsolation(scores []float64, isolated []int, poisoned []bool) (Isolation, error) {
	if len(scores) != len(poisoned) {
		return Isolation{}, fmt.Errorf("%d scores for %d samples", len(scores), len(poisoned))
	}
	m := Isolation{Samples: len(poisoned)}
	for _, p := range poisoned {
		if p {
			m.Poisoned++
		}
	}
	if m.Poisoned == 0 || m.Poisoned == m.Samples {
		return Isolation{}, fmt.Errorf("isolation needs both poisoned and clean samples, %d of %d are poisoned", m.Poisoned, m.Samples)
	}
	m.PoisonRate = float64(m.Poisoned) / float64(m.Samples)
	if err := checkSet(isolated, m.Samples); err != nil {
		return Isolation{}, err
	}

	order := isolate.Order(scores)
	for _, fraction := range cutFractions {
		count := max(1, int(math.Round(fraction*float64(m.Samples))))
		m.Cuts = append(m.Cuts, m.cut(order[:count], poisoned))
	}
	m.Set = m.cut(isolated, poisoned)
	m.AUROC, m.AUPRC = m.areas(order, scores, poisoned)
	return m, nil
}

// checkSet wants distinct indices below n.
func checkSet(set []int, n int) error {
	seen := make([]bool, n)
	for _, i := range set {
		if i < 0 || i >= n {
			return fmt.Errorf("isolated sample %d does not exist, there are %d", i, n)
		}
		if seen[i] {
			return fmt.Errorf("sample %d is isolated twice", i)
		}
		seen[i] = true
	}
	return nil
}

func (m Isolation) cut(set []int, poisoned []bool) Cut {
	c := Cut{Fraction: float64(len(set)) / float64(m.Samples), Isolated: len(set), Ceiling: 1}
	for _, i := range set {
		if poisoned[i] {
			c.Found++
		}
	}
	c.Recall = float64(c.Found) / float64(m.Poisoned)
	if c.Isolated > 0 {
		c.Precision = float64(c.Found) / float64(c.Isolated)
		c.Ceiling = min(1, float64(m.Poisoned)/float64(c.Isolated))
	}
	c.Lift = c.Precision / m.PoisonRate
	return c
}

// areas walks down the ranking, one group of equal scores at a time.
func (m Isolation) areas(order []int, scores []float64, poisoned []bool) (auroc, auprc float64) {
	var foundBefore, cleanBefore int
	for begin := 0; begin < len(order); {
		end, found := begin, 0
		for end < len(order) && tied(scores[order[begin]], scores[order[end]]) {
			if poisoned[order[end]] {
				found++
			}
			end++
		}
		clean := end - begin - found
		cleanAfter := m.Samples - m.Poisoned - cleanBefore - clean
		auroc += float64(found) * (float64(cleanAfter) + float64(clean)/2)
		auprc += float64(found) * float64(foundBefore+found) / float64(end)
		foundBefore, cleanBefore, begin = foundBefore+found, cleanBefore+clean, end
	}
	return auroc / float64(m.Poisoned) / float64(m.Samples-m.Poisoned), auprc / float64(m.Poisoned)
}

func tied(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
