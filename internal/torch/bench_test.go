package torch

import (
	"context"
	"testing"
)

// BenchmarkProduct times a large matrix product, as a 1×1 convolution: the speed
// of products alone.
func BenchmarkProduct(b *testing.B) {
	e := openThreads(b, 0)
	for _, precision := range []string{"fp32", "bf16"} {
		b.Run(precision, func(b *testing.B) {
			opt := ScopeOptions{Device: CPU, BF16: precision == "bf16"}
			if err := e.Do(context.Background(), func() error { return benchProduct(b, e, opt) }); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// benchProduct multiplies 8192 × 1024 by 1024 × 1024.
func benchProduct(b *testing.B, e *Engine, opt ScopeOptions) error {
	const images, side, channels = 32, 16, 1024
	s := e.NewScope(opt)
	defer s.Close()
	values := make([]float32, images*channels*side*side)
	for i := range values {
		values[i] = float32(i%7-3) / 100
	}
	kernel := s.Parameter(values[:channels*channels], false, channels, channels, 1, 1)
	// A convolution's result has the type and the layout that layers get.
	x := s.Conv2d(s.Floats(values, images, channels, side, side), kernel, 1, 0)
	for b.Loop() {
		step := e.NewScope(opt)
		step.Conv2d(x, kernel, 1, 0)
		err := step.Err()
		step.Close()
		if err != nil {
			return err
		}
	}
	b.ReportMetric(2*images*side*side*channels*channels*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	return s.Err()
}
