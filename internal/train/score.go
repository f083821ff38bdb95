package train

import (
	"context"
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

// scoreBatch is large because evaluation keeps nothing for a backward pass.
const scoreBatch = 256

// Score evaluates a model on samples in evaluation mode. stage names the
// progress events.
func Score(ctx context.Context, m *nn.Model, in Input, indices []int, stage string, events event.Sink) (Scores, error) {
	out := Scores{Losses: make([]float32, len(indices)), Predictions: make([]int32, len(indices))}
	var told time.Time
	for begin := 0; begin < len(indices); begin += scoreBatch {
		if err := ctx.Err(); err != nil {
			return Scores{}, err
		}
		end := min(begin+scoreBatch, len(indices))
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

// All returns the indices 0 … n−1.
func All(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
