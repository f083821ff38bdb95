package isolate

import (
	"fmt"
	"math"
)

// selectRate isolates a fixed share of all samples, rounded to the nearest
// count (§ 5.3: 1/10), the most suspicious first. Of equal scores the lower
// index goes first; NaN goes last.
type selectRate struct{ rate float64 }

func (s selectRate) Select(scores []float64, labels []int32) ([]int, error) {
	if !(s.rate >= 0 && s.rate <= 1) {
		return nil, fmt.Errorf("isolation rate is %g, want from 0 to 1", s.rate)
	}
	if len(scores) != len(labels) {
		return nil, fmt.Errorf("%d scores for %d labels", len(scores), len(labels))
	}
	count := int(math.Round(s.rate * float64(len(scores))))
	return Order(scores)[:count:count], nil
}
