package train

import (
	"fmt"
	"math"
)

// Schedule gives the learning rate of every step of a training.
type Schedule struct {
	Name   string  // constant, step, cosine or one-cycle
	Rate   float64 // the highest rate
	Epochs int
	// StepEpochs and StepFactor: "step" multiplies the rate by StepFactor
	// after every StepEpochs epochs.
	StepEpochs int
	StepFactor float64
}

// PyTorch's defaults of OneCycleLR.
const (
	warmup       = 0.3 // share of the steps in which the rate rises
	initialRatio = 25
	finalRatio   = 1e4
)

// At returns the rate of a step, counted from 0 over the whole training, where
// an epoch has perEpoch steps. "one-cycle" is PyTorch's OneCycleLR with cosine
// annealing and a constant momentum; below seven steps PyTorch's rising part is
// shorter than one step, and here it is one.
func (s Schedule) At(step, perEpoch int) (float64, error) {
	total := s.Epochs * perEpoch
	switch s.Name {
	case "constant":
		return s.Rate, nil
	case "step":
		if s.StepEpochs < 1 {
			return s.Rate, nil
		}
		return s.Rate * math.Pow(s.StepFactor, float64(step/perEpoch/s.StepEpochs)), nil
	case "cosine":
		return cosine(s.Rate, 0, float64(step)/float64(total)), nil
	case "one-cycle":
		up := max(warmup*float64(total)-1, 1)
		if float64(step) <= up {
			return cosine(s.Rate/initialRatio, s.Rate, float64(step)/up), nil
		}
		down := float64(total) - 1 - up
		return cosine(s.Rate, s.Rate/initialRatio/finalRatio, (float64(step)-up)/down), nil
	}
	return 0, fmt.Errorf("unknown schedule %q: want constant, step, cosine or one-cycle", s.Name)
}

// cosine goes from a to b as t goes from 0 to 1.
func cosine(a, b, t float64) float64 {
	return b + (a-b)/2*(1+math.Cos(math.Pi*min(max(t, 0), 1)))
}
