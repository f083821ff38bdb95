package report

import (
	"fmt"
	"math"
)

// The bins of every Histogram: six a decade, the same for all models and runs
// so that they can be compared. Losses outside fall into the first or the last.
const (
	lowestExponent  = -6
	highestExponent = 2
	binsPerDecade   = 6
	binCount        = (highestExponent - lowestExponent) * binsPerDecade
)

// Histogram counts per-sample losses in logarithmic bins.
type Histogram struct {
	// Edges of the bins, rising: bin i holds Edges[i] ≤ loss < Edges[i+1]; the
	// first also holds what is lower, the last what is higher.
	Edges  []Number `json:"edges"`
	Counts []int    `json:"counts"` // samples per bin
	// Poisoned samples per bin, part of Counts; nil without truth.
	Poisoned  []int `json:"poisoned"`
	NotFinite int   `json:"not_finite"` // losses that are NaN or infinite, in no bin
}

// NewHistogram counts losses (nats). poisoned marks samples and may be nil.
func NewHistogram(losses []float32, poisoned []bool) *Histogram {
	h := &Histogram{Edges: make([]Number, binCount+1), Counts: make([]int, binCount)}
	for i := range h.Edges {
		h.Edges[i] = Number(math.Pow(10, lowestExponent+float64(i)/binsPerDecade))
	}
	if poisoned != nil {
		h.Poisoned = make([]int, binCount)
	}
	for i, loss := range losses {
		if !Number(loss).finite() {
			h.NotFinite++
			continue
		}
		b := bin(float64(loss))
		h.Counts[b]++
		if i < len(poisoned) && poisoned[i] {
			h.Poisoned[b]++
		}
	}
	return h
}

func bin(loss float64) int {
	if loss <= 0 {
		return 0
	}
	b := math.Floor((math.Log10(loss) - lowestExponent) * binsPerDecade)
	return int(min(max(b, 0), binCount-1))
}

func (h *Histogram) check() error {
	if h == nil {
		return nil
	}
	if len(h.Counts) == 0 || len(h.Edges) != len(h.Counts)+1 {
		return fmt.Errorf("histogram of %d bins with %d edges", len(h.Counts), len(h.Edges))
	}
	if h.Poisoned != nil && len(h.Poisoned) != len(h.Counts) {
		return fmt.Errorf("histogram of %d bins with %d counts of poisoned samples", len(h.Counts), len(h.Poisoned))
	}
	for i, n := range h.Counts {
		if n < 0 || h.Poisoned != nil && (h.Poisoned[i] < 0 || h.Poisoned[i] > n) {
			return fmt.Errorf("histogram bin %d: impossible count", i)
		}
	}
	last := Number(0)
	for _, e := range h.Edges {
		if !(e > last) || !e.finite() {
			return fmt.Errorf("histogram edges do not rise from above 0")
		}
		last = e
	}
	return nil
}
