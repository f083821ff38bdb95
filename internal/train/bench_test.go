package train

import (
	"context"
	"flag"
	"testing"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/machine"
	"cordon/internal/nn"
	"cordon/internal/seed"
	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

// What the benchmarks time; tools/cpubench sets them.
var (
	benchArch  = flag.String("arch", "resnet50", "network")
	benchStem  = flag.String("stem", nn.StemImageNet, "its stem")
	benchBatch = flag.Int("batch", 128, "images in a step")
	benchSize  = flag.Int("size", 32, "height and width of the images")

	benchThreads = flag.Int("threads", 0, "threads, 0 for one per processor")
)

// BenchmarkStep times whole training steps as Run does them: batch, forward,
// backward, optimiser. tools/parity/peer.py is the same step in PyTorch.
func BenchmarkStep(b *testing.B) {
	eachPrecision(b, func(b *testing.B, m *nn.Model, in Input) error {
		return timed(b, func(steps int) error {
			_, err := Run(context.Background(), benchJob(m, in, steps))
			return err
		})
	})
}

// BenchmarkEvaluate times the forward pass and every sample's loss in
// evaluation mode: peer.py --evaluate.
func BenchmarkEvaluate(b *testing.B) {
	eachPrecision(b, func(b *testing.B, m *nn.Model, in Input) error {
		return timed(b, func(steps int) error {
			_, err := Score(context.Background(), m, in, make([]int, steps**benchBatch), "bench", event.Discard)
			return err
		})
	})
}

// BenchmarkPartial times the training step of M′, the first tenth of the layers
// frozen. Its rate over BenchmarkStep's is what freezing gains.
func BenchmarkPartial(b *testing.B) {
	eachPrecision(b, func(b *testing.B, m *nn.Model, in Input) error {
		if err := m.Freeze(.1, nn.UnitLayers, torch.NormTrain); err != nil {
			return err
		}
		return timed(b, func(steps int) error {
			_, err := Run(context.Background(), benchJob(m, in, steps))
			return err
		})
	})
}

// BenchmarkBatch times the data path alone: samples by index, normalised.
func BenchmarkBatch(b *testing.B) {
	timeBatches(b, benchInput(*benchBatch, *benchSize))
}

// BenchmarkBatchOfSample does so with a sample of a set.
func BenchmarkBatchOfSample(b *testing.B) {
	in := benchInput(*benchBatch, *benchSize)
	in.Set = in.Set.Subset(All(*benchBatch))
	timeBatches(b, in)
}

func timeBatches(b *testing.B, in Input) {
	e, order := torchtest.OpenThreads(b, *benchThreads), All(in.Set.Len())
	err := e.Do(context.Background(), func() error {
		return timed(b, func(steps int) error {
			for range steps {
				s := e.NewScope(torch.ScopeOptions{Device: torch.CPU})
				in.batch(s, order)
				err := s.Err()
				s.Close()
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		b.Fatal(err)
	}
}

// eachPrecision hands f a network in fp32 and in bf16. The engine is opened once:
// the threads of a second one would take the first one's for competitors.
func eachPrecision(b *testing.B, f func(*testing.B, *nn.Model, Input) error) {
	e := torchtest.OpenThreads(b, *benchThreads)
	for _, precision := range []string{"fp32", "bf16"} {
		b.Run(precision, func(b *testing.B) {
			err := e.Do(context.Background(), func() error {
				cfg := nn.Config{Arch: *benchArch, Stem: *benchStem, Classes: 10}
				m, err := nn.New(e, cfg, torch.CPU, precision == "bf16", 0, "bench")
				if err != nil {
					return err
				}
				defer m.Close()
				return f(b, m, benchInput(*benchBatch, *benchSize))
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// timed runs two steps to warm up and then b.N. It reports the rate and the
// process's peak of memory.
func timed(b *testing.B, f func(steps int) error) error {
	if err := f(2); err != nil {
		return err
	}
	b.ResetTimer()
	err := f(b.N)
	b.ReportMetric(float64(b.N**benchBatch)/b.Elapsed().Seconds(), "images/s")
	b.ReportMetric(float64(machine.PeakResident()>>20), "MiB")
	return err
}

func benchInput(images, size int) Input {
	random := seed.Stream(0, "bench/images")
	set := &dataset.Set{Classes: make([]string, 10), Height: size, Width: size, Channels: 3}
	set.Pixels = make([]byte, images*set.ImageBytes())
	for i := range set.Pixels {
		set.Pixels[i] = byte(random.Uint32())
	}
	for i := range images {
		set.Labels = append(set.Labels, int32(i%10))
	}
	return Input{Set: set, Mean: nn.ImageNetMean, Std: nn.ImageNetStd}
}

// benchJob makes one step an epoch.
func benchJob(m *nn.Model, in Input, steps int) Job {
	return Job{
		Stage: "bench", Model: m, Events: event.Discard, Input: in, Epochs: steps,
		Phases: []Phase{{
			Name: "descend", Terms: []Term{{Name: "data", Indices: All(in.Set.Len()), Batch: in.Set.Len(), Weight: 1}},
			Schedule: Schedule{Name: "constant", Rate: .01}, SGD: torch.SGD{Momentum: .9, WeightDecay: 5e-4},
		}},
	}
}
