package attack

import (
	"flag"
	"fmt"
	"math"
)

// SIG adds a sine along the columns: x′ = x + Δ·sin(2πjf/m), column j of
// width m, the same in all rows and channels (Barni et al. 2019, "A new
// backdoor attack in CNNs by training set corruption without label poisoning";
// SIG in table 2).
type SIG struct {
	Delta     float64 // Δ, amplitude in grey levels, above 0 and at most 255
	Frequency int     // f, periods over the width, at least 1
}

// DefaultSIG returns Δ = 40 and f = 6.
func DefaultSIG() *SIG { return &SIG{Delta: 40, Frequency: 6} }

// Name returns "sig".
func (s *SIG) Name() string { return "sig" }

// Summary describes the trigger.
func (s *SIG) Summary() string {
	return "a sine wave over the columns (Barni et al. 2019)"
}

// Mode returns CleanLabel.
func (s *SIG) Mode() LabelMode { return CleanLabel }

// Params declares delta and frequency.
func (s *SIG) Params(fs *flag.FlagSet) {
	fs.Float64Var(&s.Delta, "delta", s.Delta, "amplitude in grey levels, above 0 and at most 255")
	fs.IntVar(&s.Frequency, "frequency", s.Frequency, "periods over the width, at least 1")
}

// Validate refuses an amplitude outside (0, 255] and a frequency below 1.
func (s *SIG) Validate() error {
	if !(s.Delta > 0 && s.Delta <= 255) { // NaN too
		return fmt.Errorf("sig: delta %v: must be above 0 and at most 255", s.Delta)
	}
	if s.Frequency < 1 || s.Frequency > maxSide {
		return fmt.Errorf("sig: frequency %d: must be 1 to %d", s.Frequency, maxSide)
	}
	return nil
}

// Trigger makes the signal for images of one shape. An image that has not more
// than two columns per period cannot hold it: at two, the sine is zero in all.
func (s *SIG) Trigger(shape Shape) (Trigger, error) {
	if err := validate(s, shape); err != nil {
		return nil, err
	}
	if shape.Width <= 2*s.Frequency {
		return nil, fmt.Errorf("sig: frequency %d needs images wider than %d pixels, these have %d",
			s.Frequency, 2*s.Frequency, shape.Width)
	}
	columns := make([]float64, shape.Width)
	for j := range columns {
		columns[j] = s.Delta * math.Sin(2*math.Pi*float64(j*s.Frequency)/float64(shape.Width))
	}
	return signal{shape, columns}, nil
}

// signal is the trigger of SIG.
type signal struct {
	shape   Shape
	columns []float64
}

func (s signal) Shape() Shape { return s.shape }

func (s signal) Apply(dst, src []byte, _ int) {
	for i, v := range src {
		dst[i] = toByte(float64(v) + s.columns[i/s.shape.Channels%s.shape.Width])
	}
}
