package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
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

// ScoreBatch is how many samples a thread scores at once where images are small; many,
// because the network's weights are read for each batch.
const ScoreBatch = 128

const (
	scorePixels = ScoreBatch * 32 * 32 // of the images scored at once, to bound the memory
	leastScored = 32                   // samples, whatever their size
)

// scoreBatch is how many of so many samples a thread scores at once.
func scoreBatch(samples, pixels, threads int) int {
	fitting := min(ScoreBatch, max(leastScored, scorePixels/pixels))
	return min(fitting, max(leastScored, (samples+threads-1)/threads))
}

// Score evaluates a model on samples in evaluation mode. stage names the
// progress events.
func Score(ctx context.Context, m *nn.Model, in Input, indices []int, stage string, events event.Sink) (Scores, error) {
	out := Scores{Losses: make([]float32, len(indices)), Predictions: make([]int32, len(indices))}
	size := scoreBatch(len(indices), in.Set.Height*in.Set.Width, m.Threads())
	batches := &batches{size: size, total: len(indices), stage: stage, events: events}
	err := m.EachThread(func() error {
		for begin, end := batches.next(); begin < end && ctx.Err() == nil; begin, end = batches.next() {
			if err := scoreOne(m, in, indices[begin:end], out, begin); err != nil {
				batches.stop()
				return fmt.Errorf("%s: samples %d to %d: %w", stage, indices[begin], indices[end-1], err)
			}
			batches.finish(end - begin)
		}
		return nil
	})
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return Scores{}, err
	}
	return out, nil
}

// batches hands samples out to threads, the same ones together whichever thread takes
// them, and tells how many are done.
type batches struct {
	size, total int
	stage       string
	events      event.Sink

	mutex       sync.Mutex
	taken, done int
	told        time.Time
}

// next returns a range of positions that nobody has had, an empty one at the end.
func (b *batches) next() (begin, end int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	begin = b.taken
	b.taken = min(begin+b.size, b.total)
	return begin, b.taken
}

// stop lets nobody have another range.
func (b *batches) stop() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.taken = b.total
}

// finish counts n samples as done.
func (b *batches) finish(n int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.done += n
	if time.Since(b.told) >= 200*time.Millisecond {
		b.told = time.Now()
		b.events.Send(event.Event{Type: event.Progress, Time: b.told, Stage: b.stage, Unit: "images", Done: int64(b.done), Total: int64(b.total)})
	}
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

// recalibrationBatch is how many samples' statistics make one of the averaged ones.
const recalibrationBatch = 256

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
	for step := 0; step*recalibrationBatch < len(samples); step++ {
		batch := samples[step*recalibrationBatch : min(len(samples), (step+1)*recalibrationBatch)]
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
