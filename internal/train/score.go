package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/torch"
)

// Scores are a model's results on each sample, in the order asked for.
type Scores struct {
	Losses      []float32 // cross-entropy (natural logarithm), evaluation mode
	Predictions []int32   // the class with the highest logit
}

// ScoreBatch is how many samples are scored at once; large, because evaluation
// keeps nothing for a backward pass.
const ScoreBatch = 256

// Score evaluates a model on samples in evaluation mode. stage names the
// progress events.
func Score(ctx context.Context, m *nn.Model, in Input, indices []int, stage string, events event.Sink) (Scores, error) {
	out := Scores{Losses: make([]float32, len(indices)), Predictions: make([]int32, len(indices))}
	var told time.Time
	for begin := 0; begin < len(indices); begin += ScoreBatch {
		if err := ctx.Err(); err != nil {
			return Scores{}, err
		}
		end := min(begin+ScoreBatch, len(indices))
		if err := scoreOne(m, in, indices[begin:end], out, begin); err != nil {
			return Scores{}, fmt.Errorf("%s: samples %d to %d: %w", stage, indices[begin], indices[end-1], err)
		}
		if time.Since(told) >= 200*time.Millisecond {
			told = time.Now()
			events.Send(event.Event{Type: event.Progress, Time: told, Stage: stage, Unit: "images", Done: int64(end), Total: int64(len(indices))})
		}
	}
	return out, nil
}

func scoreOne(m *nn.Model, in Input, indices []int, out Scores, at int) error {
	s := m.NewScope(false)
	defer s.Close()
	images, labels := in.batch(s, indices)
	logits := m.Forward(s, images, torch.NormRunning, -1)
	s.ReadFloats(s.CrossEntropy(logits, labels), out.Losses[at:at+len(indices)])
	predicted := make([]int64, len(indices))
	s.ReadInts(s.Argmax(logits), predicted)
	for i, p := range predicted {
		out.Predictions[at+i] = int32(p)
	}
	return s.Err()
}

// RecalibrationSamples are as many as Recalibrated looks at, which are enough: batch
// norm takes two numbers per channel from them.
const RecalibrationSamples = 8192

// Recalibrated runs f while the model's batch norm statistics are those of its
// present weights, taken over a sample of the input; afterwards they are as
// before. The running statistics lag behind the weights, and at a high learning
// rate an evaluation with them means nothing.
func Recalibrated(ctx context.Context, m *nn.Model, in Input, seedValue uint64, stage string, f func() error) error {
	before, err := m.Norms()
	if err != nil {
		return err
	}
	n := min(RecalibrationSamples, in.Set.Len())
	samples := newDraw(seedValue, "recalibrate/"+stage, All(in.Set.Len())).at(0, n)
	if err = recalibrate(ctx, m, in, samples); err != nil {
		err = fmt.Errorf("%s: recalibrate: %w", stage, err)
	} else {
		err = f()
	}
	return errors.Join(err, m.SetNorms(before))
}

// recalibrate replaces the batch norm statistics by the mean of the batches'.
func recalibrate(ctx context.Context, m *nn.Model, in Input, samples []int) error {
	for step := 0; step*ScoreBatch < len(samples); step++ {
		batch := samples[step*ScoreBatch : min(len(samples), (step+1)*ScoreBatch)]
		if len(batch) == 1 && step > 0 { // batch norm cannot normalise one sample
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := average(m, in, batch, 1/float64(step+1)); err != nil {
			return err
		}
	}
	return nil
}

// average moves the batch norm statistics toward those of a batch.
func average(m *nn.Model, in Input, indices []int, weight float64) error {
	s := m.NewScope(false)
	defer s.Close()
	images, _ := in.batch(s, indices)
	m.Forward(s, images, torch.NormTrain, weight)
	return s.Err()
}

// All returns the indices 0 … n−1.
func All(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
