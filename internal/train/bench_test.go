package train

import (
	"context"
	"flag"
	"strings"
	"testing"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/seed"
	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

var (
	benchArchs = flag.String("archs", "resnet18,resnet50", "networks that BenchmarkStep times")
	benchBatch = flag.Int("batch", 128, "images in a step of BenchmarkStep")
	benchSize  = flag.Int("size", 32, "height and width of its images")
)

// BenchmarkStep times whole training steps as Run does them: batch, forward,
// backward, optimiser. tools/parity/peer.py is the same step in PyTorch and
// tools/bench.sh runs the two in turn.
func BenchmarkStep(b *testing.B) {
	for _, arch := range strings.Split(*benchArchs, ",") {
		for _, precision := range []string{"fp32", "bf16"} {
			b.Run(arch+"/"+precision, func(b *testing.B) {
				torchtest.Run(b, func(e *torch.Engine) error { return benchmarkStep(b, e, arch, precision == "bf16") })
			})
		}
	}
}

func benchmarkStep(b *testing.B, e *torch.Engine, arch string, bf16 bool) error {
	const warmUp = 2
	m, err := nn.New(e, nn.Config{Arch: arch, Stem: nn.StemImageNet, Classes: 10}, torch.CPU, bf16, 0, "bench")
	if err != nil {
		return err
	}
	defer m.Close()
	job := benchJob(m, *benchBatch, *benchSize)
	if _, err := Run(context.Background(), repeated(job, warmUp)); err != nil {
		return err
	}
	b.ResetTimer()
	_, err = Run(context.Background(), repeated(job, b.N))
	b.ReportMetric(float64(b.N**benchBatch)/b.Elapsed().Seconds(), "images/s")
	return err
}

// repeated makes one step an epoch.
func repeated(job Job, steps int) Job {
	job.Epochs = steps
	return job
}

func benchJob(m *nn.Model, batch, size int) Job {
	random := seed.Stream(0, "bench/images")
	set := &dataset.Set{Classes: make([]string, 10), Height: size, Width: size, Channels: 3}
	set.Pixels = make([]byte, batch*set.ImageBytes())
	for i := range set.Pixels {
		set.Pixels[i] = byte(random.Uint32())
	}
	for i := range batch {
		set.Labels = append(set.Labels, int32(i%10))
	}
	return Job{
		Stage: "bench", Model: m, Events: event.Discard,
		Input: Input{Set: set, Mean: nn.ImageNetMean, Std: nn.ImageNetStd},
		Phases: []Phase{{
			Name: "descend", Terms: []Term{{Name: "data", Indices: All(batch), Batch: batch, Weight: 1}},
			Schedule: Schedule{Name: "constant", Rate: .01}, SGD: torch.SGD{Momentum: .9, WeightDecay: 5e-4},
		}},
	}
}
