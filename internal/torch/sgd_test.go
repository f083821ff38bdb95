package torch

import (
	"fmt"
	"math"
	"testing"
)

// TestDescendIsPyTorchs repeats the formula of torch.optim.SGD in float64, for
// a vector and for a weight, whose memory layout is another.
func TestDescendIsPyTorchs(t *testing.T) {
	const steps = 4
	for _, o := range []SGD{
		{Rate: .1},
		{Rate: .1, WeightDecay: .3},
		{Rate: .1, Momentum: .9},
		{Rate: .1, Momentum: .9, WeightDecay: .3},
		{Rate: .1, Momentum: .9, WeightDecay: .3, Nesterov: true},
	} {
		for _, shape := range [][]int{{24}, {2, 3, 2, 2}} {
			t.Run(fmt.Sprintf("%+v %v", o, shape), func(t *testing.T) {
				inScope(t, ScopeOptions{Device: CPU, Grad: true}, func(s *Scope) error {
					values := make([]float32, 24)
					want, speed := make([]float64, 24), make([]float64, 24)
					for i := range values {
						values[i] = float32(i%7) / 4
						want[i] = float64(values[i])
					}
					p := s.Parameter(values, true, shape...)
					v := s.Parameter(make([]float32, 24), false, shape...)
					idle := s.Parameter([]float32{5}, true, 1) // the loss does not depend on it
					rest := s.Parameter([]float32{0}, false, 1)
					for range steps {
						loss := s.Scale(s.Mean(p), 24) // gradient 1
						s.Descend(loss, []Tensor{p, idle}, []Tensor{v, rest}, o)
						for i := range want {
							d := 1 + o.WeightDecay*want[i]
							speed[i] = o.Momentum*speed[i] + d
							step := speed[i]
							if o.Nesterov {
								step = d + o.Momentum*speed[i]
							}
							want[i] -= o.Rate * step
						}
					}
					s.ReadFloats(p, values)
					for i, w := range want {
						if math.Abs(float64(values[i])-w) > 1e-5 {
							t.Errorf("value %d: %v, want %v", i, values[i], w)
						}
					}
					kept := make([]float32, 1)
					s.ReadFloats(idle, kept)
					if kept[0] != 5 {
						t.Errorf("a parameter that the loss does not depend on moved to %v", kept[0])
					}
					return s.Err()
				})
			})
		}
	}
}
