package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/seed"
	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

const classes = 4

// input makes n random images of 8×8 pixels.
func input(n int) Input { return inputOf(n, 8) }

func inputOf(n, side int) Input {
	random := seed.Stream(7, "test/images")
	set := &dataset.Set{Classes: make([]string, classes), Height: side, Width: side, Channels: 3}
	for i := range n {
		set.Labels = append(set.Labels, int32(i%classes))
	}
	for range n * set.ImageBytes() {
		set.Pixels = append(set.Pixels, byte(random.Uint32()))
	}
	return Input{Set: set, Mean: []float32{.5, .5, .5}, Std: []float32{.25, .25, .25}}
}

// template is the untrained network; tests copy it, which is faster than to
// draw its weights again.
func template(e *torch.Engine) (*nn.Model, error) { return templateOf(e, small, false) }

var small = nn.Config{Arch: "resnet18", Stem: nn.StemSmall, Classes: classes}

func templateOf(e *torch.Engine, c nn.Config, bf16 bool) (*nn.Model, error) {
	return nn.New(e, c, torch.CPU, bf16, 5, "test")
}

// simple is ordinary training: n samples in batches, one epoch.
func simple(n, batch int) Job {
	return Job{
		Stage: "test", Input: input(n), Seed: 3, Epochs: 1, Events: event.Discard,
		Phases: []Phase{{
			Name: "descend", Terms: []Term{{Name: "data", Indices: All(n), Batch: batch, Weight: 1}},
			Schedule: Schedule{Name: "constant", Rate: .01, Epochs: 1}, SGD: torch.SGD{Momentum: .9, WeightDecay: 5e-4},
		}},
	}
}

// outcome trains a copy of the template and returns a hash of the weights and
// statistics.
func outcome(m *nn.Model, from *nn.Model, job Job) (string, Outcome, error) {
	if err := m.CopyFrom(from); err != nil {
		return "", Outcome{}, err
	}
	job.Model = m
	out, err := Run(context.Background(), job)
	if err != nil {
		return "", Outcome{}, err
	}
	h, err := hash(m)
	return h, out, err
}

func hash(m *nn.Model) (string, error) {
	h := sha256.New()
	for _, p := range m.Params() {
		v, err := m.Read(p)
		if err != nil {
			return "", err
		}
		if err := binary.Write(h, binary.LittleEndian, v); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// twoModels gives the template and a model to train.
func twoModels(t *testing.T, f func(from, m *nn.Model) error) {
	t.Helper()
	twoModelsOf(t, small, false, f)
}

func twoModelsOf(t *testing.T, c nn.Config, bf16 bool, f func(from, m *nn.Model) error) {
	t.Helper()
	torchtest.Run(t, func(e *torch.Engine) error {
		from, err := templateOf(e, c, bf16)
		if err != nil {
			return err
		}
		defer from.Close()
		m, err := templateOf(e, c, bf16)
		if err != nil {
			return err
		}
		defer m.Close()
		return f(from, m)
	})
}

// TestSeedDecidesEveryBit on the engine's different ways: small maps and the paper's
// network, a smaller last batch, images of one pixel.
func TestSeedDecidesEveryBit(t *testing.T) {
	for _, c := range []struct {
		nn.Config
		samples, side int
	}{
		{small, 12, 8},
		{nn.Config{Arch: "resnet50", Stem: nn.StemImageNet, Classes: classes}, 11, 32},
		{nn.Config{Arch: "preact_resnet18", Stem: nn.StemSmall, Classes: classes}, 7, 1},
	} {
		for _, bf16 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %d bf16 %v", c.Arch, c.side, bf16), func(t *testing.T) {
				job := simple(c.samples, 4)
				job.Input = inputOf(c.samples, c.side)
				seedDecides(t, c.Config, bf16, job)
			})
		}
	}
}

func seedDecides(t *testing.T, c nn.Config, bf16 bool, job Job) {
	t.Helper()
	twoModelsOf(t, c, bf16, func(from, m *nn.Model) error {
		one, figures, err := outcome(m, from, job)
		if err != nil {
			return err
		}
		again, same, err := outcome(m, from, job)
		if err != nil {
			return err
		}
		if one != again || !reflect.DeepEqual(figures.Epochs, same.Epochs) {
			t.Error("the same seed gave another result")
		}
		for _, epoch := range figures.Epochs {
			for name, v := range epoch {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s is %v", name, v)
				}
			}
		}
		job.Seed++
		other, _, err := outcome(m, from, job)
		if err != nil {
			return err
		}
		if other == one {
			t.Error("another seed gave the same result")
		}
		return nil
	})
}

func TestRunLeavesNoTensors(t *testing.T) {
	torchtest.Run(t, func(e *torch.Engine) error {
		m, err := template(e)
		if err != nil {
			return err
		}
		defer m.Close()
		before, job := e.Live(), simple(8, 4)
		job.Model = m
		if _, err := Run(context.Background(), job); err != nil {
			return err
		}
		if after := e.Live(); after != before {
			t.Errorf("%d tensors before, %d after", before, after)
		}
		return nil
	})
}

// twoPhases has a joint phase of two terms, a phase of its own with another
// batch size, and a recalibration: 3 + 2 + 2 steps an epoch.
func twoPhases() Job {
	job := simple(20, 8)
	job.Epochs = 2
	job.Phases[0].Schedule = Schedule{Name: "one-cycle", Rate: .01, Epochs: 2}
	job.Phases[0].Terms = append(job.Phases[0].Terms,
		Term{Name: "isolated", Indices: []int{3, 7, 11, 15, 19}, Batch: 3, Weight: -.1, Bound: 3, Norm: torch.NormBatch})
	job.Phases = append(job.Phases,
		Phase{
			Name: "again", Terms: []Term{{Name: "few", Indices: All(9), Batch: 4, Weight: 1}},
			Schedule: Schedule{Name: "cosine", Rate: .005, Epochs: 2}, SGD: torch.SGD{Momentum: .5, Nesterov: true},
		},
		Phase{Name: "recalibrate", Recalibrate: true, Terms: []Term{{Name: "all", Indices: All(20), Batch: 10, Weight: 1}}})
	job.AfterEpoch = func(epoch int) (map[string]float64, error) {
		return map[string]float64{"scored": float64(epoch) / 3}, nil
	}
	return job
}

// stopping is a context that is cancelled from its n-th question on: Run asks
// once after every step.
type stopping struct {
	context.Context
	left int
}

func (s *stopping) Err() error {
	s.left--
	if s.left <= 0 {
		return context.Canceled
	}
	return nil
}

func TestResumedTrainingIsBitIdentical(t *testing.T) {
	const steps = 2 * (3 + 2 + 2)
	twoModels(t, func(from, m *nn.Model) error {
		want, figures, err := outcome(m, from, twoPhases())
		if err != nil {
			return err
		}
		for name, stops := range map[string][]int{
			"in every phase":   {2, 2, 2, 1, 2}, // steps 2, 4, 6, 7 and 9
			"at random steps":  {1 + rand.IntN(6), 1 + rand.IntN(4)},
			"at the last step": {steps},
		} {
			job := twoPhases()
			job.Checkpoint = filepath.Join(t.TempDir(), "checkpoint.safetensors")
			job.CheckpointEvery = time.Hour
			for _, n := range stops {
				if err := m.CopyFrom(from); err != nil { // what a new process has
					return err
				}
				job.Model = m
				if _, err := Run(&stopping{context.Background(), n}, job); !errors.Is(err, context.Canceled) {
					return fmt.Errorf("%s: stopped after %d steps: %v", name, n, err)
				}
			}
			got, resumed, err := outcome(m, from, job)
			if err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s (%v): the resumed training has other weights", name, stops)
			}
			if !reflect.DeepEqual(resumed.Epochs, figures.Epochs) || resumed.Images != figures.Images {
				t.Errorf("%s (%v): figures %v, want %v", name, stops, resumed.Epochs, figures.Epochs)
			}
		}
		return nil
	})
}

func TestCheckpoints(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		job := simple(4, 2)
		job.Checkpoint = filepath.Join(t.TempDir(), "checkpoint.safetensors")
		if _, _, err := outcome(m, from, job); err != nil { // saves after every step
			return err
		}
		for name, change := range map[string]func(*Job){
			"another training": func(j *Job) { j.Phases[0].Terms = append(j.Phases[0].Terms, j.Phases[0].Terms[0]) },
			"fewer epochs":     func(j *Job) { j.Epochs = -1 },
			"a broken file": func(j *Job) {
				j.Checkpoint += ".broken"
				if err := os.WriteFile(j.Checkpoint, []byte("broken"), 0o600); err != nil {
					t.Error(err)
				}
			},
		} {
			other := job
			other.Phases = slices.Clone(job.Phases)
			change(&other)
			if _, _, err := outcome(m, from, other); err == nil || !strings.Contains(err.Error(), other.Checkpoint) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for range 2 { // the second time there is none
			if err := DropCheckpoint(job.Checkpoint); err != nil {
				return err
			}
		}
		if _, err := os.Stat(job.Checkpoint); err == nil {
			t.Error("the checkpoint is still there")
		}
		return nil
	})
}

// An interruption whose state cannot be saved is a failure.
func TestInterruptedWithoutRoomToSave(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		job := simple(4, 2)
		job.Model, job.CheckpointEvery = m, time.Hour
		job.Checkpoint = filepath.Join(t.TempDir(), "no", "checkpoint.safetensors")
		_, err := Run(&stopping{context.Background(), 1}, job)
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		return nil
	})
}

func TestLastBatchOfOneIsDropped(t *testing.T) {
	for _, c := range []struct{ n, batch, steps, images int }{
		{9, 4, 2, 8}, {10, 4, 3, 10}, {8, 4, 2, 8}, {3, 8, 1, 3}, {1, 4, 1, 1}, {2, 1, 2, 2},
	} {
		if c.batch == 1 {
			continue // recipes do not allow it
		}
		job := simple(c.n, c.batch)
		if got := job.Phases[0].steps(); got != c.steps {
			t.Errorf("%d samples in batches of %d: %d steps, want %d", c.n, c.batch, got, c.steps)
		}
		if got := job.Images(); got != int64(c.images) {
			t.Errorf("%d samples in batches of %d: %d images, want %d", c.n, c.batch, got, c.images)
		}
	}
	twoModels(t, func(from, m *nn.Model) error {
		_, out, err := outcome(m, from, simple(5, 2))
		if err == nil && out.Images != 4 {
			t.Errorf("%d images", out.Images)
		}
		return err
	})
}

// joint adds a second term to ordinary training.
func joint(change func(*Term)) Job {
	job := simple(12, 6)
	second := Term{Name: "isolated", Indices: []int{1, 5, 9}, Batch: 3, Weight: -.3, Norm: torch.NormBatch}
	change(&second)
	job.Phases[0].Terms = append(job.Phases[0].Terms, second)
	return job
}

func TestEveryTermOptionHasAnEffect(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		hashes := map[string]string{}
		for name, job := range map[string]Job{
			"one term":        simple(12, 6),
			"joint":           joint(func(*Term) {}),
			"weight":          joint(func(s *Term) { s.Weight = -.2 }),
			"samples":         joint(func(s *Term) { s.Indices = []int{2, 6, 10} }),
			"batch":           joint(func(s *Term) { s.Batch = 2 }),
			"name":            joint(func(s *Term) { s.Name, s.Batch = "other", 2 }), // other draws
			"norm train":      joint(func(s *Term) { s.Norm = torch.NormTrain }),
			"norm running":    joint(func(s *Term) { s.Norm = torch.NormRunning }),
			"bound":           joint(func(s *Term) { s.Bound = 1.2 }),
			"momentum":        withPhase(func(p *Phase) { p.SGD.Momentum = .8 }),
			"weight decay":    withPhase(func(p *Phase) { p.SGD.WeightDecay = .1 }),
			"nesterov":        withPhase(func(p *Phase) { p.SGD.Nesterov = true }),
			"rate":            withPhase(func(p *Phase) { p.Schedule.Rate = .02 }),
			"schedule cosine": withPhase(func(p *Phase) { p.Schedule.Name = "cosine" }),
		} {
			h, _, err := outcome(m, from, job)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if other, ok := hashes[h]; ok {
				t.Errorf("%q trains as %q does", name, other)
			}
			hashes[h] = name
		}
		// A bound that drops every sample leaves the first term alone.
		h, _, err := outcome(m, from, joint(func(s *Term) { s.Bound = 1e-9 }))
		if err == nil && hashes[h] != "one term" {
			t.Error("samples above the bound still count")
		}
		return err
	})
}

func withPhase(change func(*Phase)) Job {
	job := simple(12, 6)
	change(&job.Phases[0])
	return job
}

func TestNegativeWeightUnlearns(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		loss := map[float64]float64{}
		for _, weight := range []float64{-1, 1} {
			job := joint(func(s *Term) { s.Weight = weight })
			job.Epochs = 4
			if _, _, err := outcome(m, from, job); err != nil {
				return err
			}
			s := m.NewScope(false)
			images, labels := job.Input.batch(s, job.Phases[0].Terms[1].Indices)
			v := make([]float32, 1)
			s.ReadFloats(s.Mean(s.CrossEntropy(m.Forward(s, images, torch.NormBatch, -1), labels)), v)
			err := s.Err()
			s.Close()
			if err != nil {
				return err
			}
			loss[weight] = float64(v[0])
		}
		if loss[-1] < loss[1]+1 {
			t.Errorf("loss %v after ascent, %v after descent", loss[-1], loss[1])
		}
		return nil
	})
}

func TestErrors(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		for name, c := range map[string]struct {
			change func(*Job)
			want   string
		}{
			"empty term":  {func(j *Job) { j.Phases[0].Terms[0].Indices = nil }, "nothing to train on"},
			"no batch":    {func(j *Job) { j.Phases[0].Terms[0].Batch = 0 }, "nothing to train on"},
			"schedule":    {func(j *Job) { j.Phases[0].Schedule.Name = "linear" }, "unknown schedule"},
			"not finite":  {func(j *Job) { j.Phases[0].Schedule.Rate, j.Epochs = 1e30, 3 }, "no longer a number"},
			"one sample":  {func(j *Job) { j.Phases[0].Terms[0].Indices = All(1) }, "more than one value"},
			"after epoch": {func(j *Job) { j.AfterEpoch = func(int) (map[string]float64, error) { return nil, errors.New("boom") } }, "boom"},
		} {
			job := simple(8, 4)
			c.change(&job)
			_, _, err := outcome(m, from, job)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), job.Stage) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
		return nil
	})
}

func TestRecalibrateAveragesBatchStatistics(t *testing.T) {
	const n, batch = 12, 4
	twoModels(t, func(from, m *nn.Model) error {
		job := simple(n, batch)
		job.Phases[0].Recalibrate = true
		if _, _, err := outcome(m, from, job); err != nil {
			return err
		}
		order := newDraw(job.Seed, "order/test/descend/data", All(n))
		want := map[string][]float64{}
		for step := range n / batch {
			s := from.NewScope(false)
			images, _ := job.Input.batch(s, order.at(step*batch, batch))
			from.Forward(s, images, torch.NormTrain, 1) // the statistics of this batch alone
			err := s.Err()
			s.Close()
			if err != nil {
				return err
			}
			for _, p := range from.Params() {
				v, err := from.Read(p)
				if err != nil {
					return err
				}
				if want[p.Name] == nil {
					want[p.Name] = make([]float64, len(v))
				}
				for i, x := range v {
					want[p.Name][i] += float64(x) * batch / n
				}
			}
		}
		for _, p := range m.Params() {
			got, err := m.Read(p)
			if err != nil {
				return err
			}
			for i, w := range want[p.Name] {
				if math.Abs(float64(got[i])-w) > 1e-5*math.Abs(w)+1e-6 {
					return fmt.Errorf("%s, value %d: %v, want %v", p.Name, i, got[i], w)
				}
			}
		}
		return nil
	})
}

// Inside, the statistics are those of the present weights; outside, as before.
func TestRecalibratedLendsStatistics(t *testing.T) {
	const n = 40
	twoModels(t, func(lent, m *nn.Model) error {
		before, err := hash(m)
		if err != nil {
			return err
		}
		in := input(n)
		s := lent.NewScope(false)
		defer s.Close()
		images, _ := in.batch(s, newDraw(3, "recalibrate/test", All(n)).at(0, n))
		lent.Forward(s, images, torch.NormTrain, 1)
		want, err := hash(lent)
		if err != nil {
			return err
		}
		inside := ""
		if err := Recalibrated(context.Background(), m, in, 3, "test", func() error {
			inside, err = hash(m)
			return err
		}); err != nil {
			return err
		}
		if inside != want || inside == before {
			t.Error("inside, the statistics are not those of the samples")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := Recalibrated(ctx, m, in, 3, "test", func() error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled recalibration: %v", err)
		}
		failed := errors.New("failed")
		if err := Recalibrated(context.Background(), m, in, 3, "test", func() error { return failed }); !errors.Is(err, failed) {
			t.Errorf("failed scoring: %v", err)
		}
		if after, err := hash(m); err != nil || after != before {
			t.Errorf("the model was changed (%v)", err)
		}
		return nil
	})
}

func TestScoreBatch(t *testing.T) {
	for _, c := range []struct{ samples, size, threads, want int }{
		{10000, 28, 1, ScoreBatch},
		{10000, 32, 2, ScoreBatch},
		{10000, 48, 2, 56}, // no more pixels than ScoreBatch images of 32×32
		{10000, 224, 16, leastScored},
		{101, 32, 2, 51}, // both threads have something to do
		{1, 32, 2, leastScored},
	} {
		if got := scoreBatch(c.samples, c.size*c.size, c.threads); got != c.want {
			t.Errorf("%d images of %d×%d, %d threads: %d at once, want %d", c.samples, c.size, c.size, c.threads, got, c.want)
		}
	}
}

func TestScoreMatchesForward(t *testing.T) {
	const n = 2*ScoreBatch + 44 // a third batch, which either thread may take
	twoModels(t, func(m, _ *nn.Model) error {
		in := input(n)
		indices := All(n)
		slices.Reverse(indices)
		before, err := hash(m)
		if err != nil {
			return err
		}
		scores, err := Score(context.Background(), m, in, indices, "score", event.Discard)
		if err != nil {
			return err
		}
		after, err := hash(m)
		if err != nil {
			return err
		}
		if before != after {
			t.Error("scoring changed the model")
		}
		again, err := Score(context.Background(), m, in, indices, "score", event.Discard)
		if err != nil || !slices.Equal(again.Losses, scores.Losses) {
			t.Errorf("scoring again gave other bits (%v)", err)
		}
		for begin := 0; begin < n; begin += 50 {
			part := indices[begin : begin+50]
			s := m.NewScope(false)
			images, _ := in.batch(s, part)
			logits := make([]float32, len(part)*classes)
			s.ReadFloats(m.Forward(s, images, torch.NormRunning, -1), logits)
			err := s.Err()
			s.Close()
			if err != nil {
				return err
			}
			for i, k := range part {
				loss, predicted := crossEntropy(logits[i*classes:(i+1)*classes], int(in.Set.Labels[k]))
				if math.Abs(float64(scores.Losses[begin+i])-loss) > 1e-4*max(1, loss) || int(scores.Predictions[begin+i]) != predicted {
					return fmt.Errorf("sample %d: loss %v, class %d; want %v, %d", k, scores.Losses[begin+i], scores.Predictions[begin+i], loss, predicted)
				}
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Score(ctx, m, in, indices, "score", event.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled scoring: %v", err)
		}
		return nil
	})
}

// crossEntropy of one sample in float64, and the class with the largest logit.
func crossEntropy(logits []float32, label int) (loss float64, predicted int) {
	var sum float64
	for k, v := range logits {
		sum += math.Exp(float64(v - logits[label]))
		if v > logits[predicted] {
			predicted = k
		}
	}
	return math.Log(sum), predicted
}

// recorder keeps events.
type recorder struct{ events []event.Event }

func (r *recorder) Send(e event.Event) { r.events = append(r.events, e) }

func TestFiguresAndEvents(t *testing.T) {
	twoModels(t, func(from, m *nn.Model) error {
		job, log := twoPhases(), &recorder{}
		job.Epochs, job.Events = 1, log
		_, out, err := outcome(m, from, job)
		if err != nil {
			return err
		}
		want := []string{
			"accuracy", "again/few/accuracy", "again/few/loss", "descend/isolated/accuracy", "descend/isolated/loss",
			"learning_rate", "loss", "recalibrate/all/accuracy", "recalibrate/all/loss", "scored",
		}
		if got := slices.Sorted(maps.Keys(out.Epochs[0])); !slices.Equal(got, want) {
			t.Errorf("figures %v, want %v", got, want)
		}
		images := int64(20 + 3*3 + 8 + 20)
		last := log.events[len(log.events)-1]
		if out.Images != images || last.Type != event.EpochDone || last.Done != images || last.Total != images || last.Epoch != 1 {
			t.Errorf("%d images, last event %+v; want %d", out.Images, last, images)
		}
		return nil
	})
}

// A phase may be part of some epochs only; its figures are then the epoch's.
func TestPhaseOfSomeEpochs(t *testing.T) {
	job := func() Job {
		j := simple(8, 4)
		last := j.Phases[0]
		last.Name, last.From, last.Schedule.Rate = "last", 3, .001
		j.Phases[0].To, j.Epochs = 2, 3
		j.Phases = append(j.Phases, last)
		return j
	}
	twoModels(t, func(from, m *nn.Model) error {
		whole, log := job(), &recorder{}
		whole.Events = log
		want, out, err := outcome(m, from, whole)
		if err != nil {
			return err
		}
		first := job().Phases[0].Schedule.Rate
		for i, rate := range []float64{first, first, .001} {
			f := out.Epochs[i]
			if got := slices.Sorted(maps.Keys(f)); !slices.Equal(got, []string{"accuracy", "learning_rate", "loss"}) {
				t.Errorf("epoch %d has the figures %v", i+1, got)
			}
			if f["learning_rate"] != rate {
				t.Errorf("epoch %d: learning rate %v, want %v", i+1, f["learning_rate"], rate)
			}
		}
		last := log.events[len(log.events)-1]
		if out.Images != 3*8 || last.Done != out.Images || last.Total != out.Images {
			t.Errorf("%d images, last event %+v", out.Images, last)
		}
		resumed, log := job(), &recorder{}
		resumed.Model, resumed.CheckpointEvery, resumed.Events = m, time.Hour, log
		resumed.Checkpoint = filepath.Join(t.TempDir(), "checkpoint.safetensors")
		if err := m.CopyFrom(from); err != nil {
			return err
		}
		if _, err := Run(&stopping{context.Background(), 5}, resumed); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped in the last phase: %v", err)
		}
		got, again, err := outcome(m, from, resumed)
		if err != nil || got != want || !reflect.DeepEqual(again.Epochs, out.Epochs) {
			t.Errorf("the resumed training has other weights or figures (%v)", err)
		}
		at := slices.IndexFunc(log.events, func(e event.Event) bool { return e.Type == event.Resumed })
		if at < 0 || log.events[at].Done != 2*8+4 {
			t.Errorf("resumed at event %d of %+v, want 20 images done", at, log.events)
		}
		return nil
	})
}
