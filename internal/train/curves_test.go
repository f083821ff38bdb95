package train

import (
	"context"
	"flag"
	"testing"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

var (
	curvesData = flag.String("curves", "", "folder of an image set: train on it and print losses and accuracies")
	curvesSeed = flag.Uint64("curves-seed", 0, "seed of that training")
)

// TestCurves trains -arch for three epochs in both precisions. Run it with two
// engines, or in PyTorch, to see whether they learn alike; make curves does.
func TestCurves(t *testing.T) {
	if *curvesData == "" {
		t.Skip("takes minutes: give -curves FOLDER")
	}
	ctx := context.Background()
	train, err := dataset.Open(ctx, *curvesData, dataset.Train, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	test, err := dataset.Open(ctx, *curvesData, dataset.Test, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, precision := range []string{"fp32", "bf16"} {
		torchtest.Run(t, func(e *torch.Engine) error { return curve(t, e, train, test, precision) })
	}
}

func curve(t *testing.T, e *torch.Engine, train, test *dataset.Set, precision string) error {
	cfg := nn.Config{Arch: *benchArch, Stem: *benchStem, Classes: len(train.Classes)}
	m, err := nn.New(e, cfg, torch.CPU, precision == "bf16", *curvesSeed, "curves")
	if err != nil {
		return err
	}
	defer m.Close()
	in, err := NewInput(train, "dataset")
	if err != nil {
		return err
	}
	job := benchJob(m, in, 3)
	job.Seed = *curvesSeed
	job.Phases[0].Terms[0].Batch = 128
	job.Phases[0].Schedule = Schedule{Name: "one-cycle", Rate: .05, Epochs: 3}
	job.AfterEpoch = func(epoch int) (map[string]float64, error) {
		scores, err := Score(context.Background(), m, Input{Set: test, Mean: in.Mean, Std: in.Std}, All(test.Len()), "test", event.Discard)
		correct := 0
		for i, p := range scores.Predictions {
			if p == test.Labels[i] {
				correct++
			}
		}
		return map[string]float64{"test": float64(correct) / float64(test.Len())}, err
	}
	out, err := Run(context.Background(), job)
	for i, f := range out.Epochs {
		t.Logf("%s, seed %d, epoch %d: loss %.4f, training accuracy %.4f, test accuracy %.4f",
			precision, *curvesSeed, i+1, f["loss"], f["accuracy"], f["test"])
	}
	return err
}
