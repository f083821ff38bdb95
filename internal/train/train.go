// Package train holds the one training loop of all methods.
//
// A training is a list of phases that are run through in every epoch, or in some; a phase
// is SGD on a sum of terms; a term is the weighted mean cross-entropy of batches
// drawn from some samples. Ordinary training is one phase with one term;
// unlearning (the paper's eq. 3) adds a term of negative weight to a step, or a
// second phase to an epoch.
package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/torch"
)

// Term is one part of the loss of a step.
type Term struct {
	Name    string // names its random stream and its figures
	Indices []int  // the samples it draws from
	Batch   int    // samples per step
	Weight  float64
	// Unlikely replaces cross-entropy, −log p, by −log(1 − p): descending on it
	// unlearns the label.
	Unlikely bool
	// Bound drops samples whose cross-entropy is at least this from the term; 0
	// keeps all.
	Bound float64
	Norm  torch.NormMode
	// Shared passes the term's samples through the network in one batch with
	// the first term's, in its mode: batch norm then treats both alike.
	Shared bool
}

// Phase is a part of epochs: one pass over the samples of its first term.
type Phase struct {
	Name     string
	Terms    []Term
	Schedule Schedule
	SGD      torch.SGD // Rate comes from the schedule
	// From and To are the first and the last epoch that the phase is part of,
	// counted from 1; 0 leaves that side open.
	From, To int
	// Recalibrate learns nothing and only averages the batch norm statistics
	// over the pass.
	Recalibrate bool
}

// SGDPhase is a phase with a recipe's optimiser and schedule.
func SGDPhase(name string, r recipe.Train, terms ...Term) Phase {
	return Phase{
		Name:  name,
		Terms: terms,
		Schedule: Schedule{
			Name: r.Schedule, Rate: r.LearningRate, Epochs: r.Epochs,
			StepEpochs: r.StepEpochs, StepFactor: r.StepFactor,
		},
		SGD: torch.SGD{Momentum: r.Momentum, WeightDecay: r.WeightDecay, Nesterov: r.Nesterov},
	}
}

// Job is one training.
type Job struct {
	Stage  string // names its random streams, events and checkpoint
	Model  *nn.Model
	Input  Input
	Seed   uint64
	Epochs int
	Phases []Phase
	// AfterEpoch, if set, runs after each epoch (counted from 1), for scoring;
	// what it returns is added to the epoch's figures. A resumed training may
	// run it again for the epoch it was stopped in.
	AfterEpoch func(epoch int) (map[string]float64, error)
	// Checkpoint is where the state is saved so that the same job continues;
	// empty saves nothing. CheckpointEvery is the time between two saves; 0
	// saves after every step.
	Checkpoint      string
	CheckpointEvery time.Duration
	Events          event.Sink
}

// EpochFigures are the figures of one epoch: "loss", "accuracy" and
// "learning_rate" of its first phase's first term, others as "phase/term/loss"
// where there is more than one, and what AfterEpoch returned.
type EpochFigures map[string]float64

// Outcome is what a training reports.
type Outcome struct {
	Epochs  []EpochFigures `json:"epochs"`
	Seconds float64        `json:"seconds"` // scoring after epochs included
	Images  int64          `json:"images"`  // passed through the network for training
}

// run is a job in progress.
type run struct {
	Job
	sgd   []*nn.SGD // per phase; nil for Recalibrate
	draws [][]*draw // per phase and term

	state state
	began time.Time // when this process took the job up
	saved time.Time // when the last checkpoint was written
	told  time.Time // when the last progress event was sent
}

// state is what a checkpoint holds beside tensors.
type state struct {
	Epoch   int            `json:"epoch"` // finished epochs
	Phase   int            `json:"phase"`
	Step    int            `json:"step"` // finished steps of the phase
	Figures []EpochFigures `json:"figures"`
	Sums    []sum          `json:"sums"` // of the unfinished epoch, per phase and term
	Seconds float64        `json:"seconds"`
}

// seconds is the time spent on the job by this process and those before it.
func (r *run) seconds() float64 { return r.state.Seconds + time.Since(r.began).Seconds() }

// sum adds up one term over an epoch.
type sum struct {
	Loss    float64 `json:"loss"`
	Correct int     `json:"correct"`
	Seen    int     `json:"seen"`
}

// Run trains until the last epoch, from the job's checkpoint if there is one,
// and returns the figures of every epoch and the seconds it took, those before
// an interruption included. When ctx is cancelled it saves a
// checkpoint and returns ctx's error; a step in progress is finished first.
func Run(ctx context.Context, job Job) (Outcome, error) {
	r := &run{Job: job, saved: time.Now(), began: time.Now()}
	defer r.close()
	if err := r.prepare(); err != nil {
		return Outcome{}, fmt.Errorf("%s: %w", job.Stage, err)
	}
	for r.state.Epoch < r.Epochs {
		if err := r.epoch(ctx); err != nil {
			return Outcome{}, fmt.Errorf("%s: %w", job.Stage, err)
		}
	}
	return Outcome{Epochs: r.state.Figures, Seconds: r.seconds(), Images: job.Images()}, nil
}

func (r *run) prepare() error {
	sums := 0
	for _, p := range r.Phases {
		var draws []*draw
		for _, t := range p.Terms {
			if len(t.Indices) == 0 || t.Batch < 1 {
				return fmt.Errorf("%s: nothing to train on", t.Name)
			}
			purpose := fmt.Sprintf("order/%s/%s/%s", r.Stage, p.Name, t.Name)
			draws = append(draws, newDraw(r.Seed, purpose, t.Indices))
		}
		r.draws = append(r.draws, draws)
		sums += len(p.Terms)
		if p.Recalibrate {
			r.sgd = append(r.sgd, nil)
			continue
		}
		o, err := r.Model.NewSGD()
		if err != nil {
			return err
		}
		r.sgd = append(r.sgd, o)
	}
	r.state.Sums = make([]sum, sums)
	return r.restore()
}

func (r *run) close() {
	for _, o := range r.sgd {
		if o != nil {
			o.Close()
		}
	}
}

// steps is the number of steps of a phase: its first term is passed over once.
// A last batch of a single sample, which batch norm could not normalise, is
// left out; the next epoch's order is another.
func (p Phase) steps() int {
	n, batch := len(p.Terms[0].Indices), min(p.Terms[0].Batch, len(p.Terms[0].Indices))
	steps := (n + batch - 1) / batch
	if n%batch == 1 && steps > 1 {
		steps--
	}
	return steps
}

// in says whether the phase is part of an epoch, counted from 0.
func (p Phase) in(epoch int) bool { return epoch >= p.From-1 && (p.To == 0 || epoch < p.To) }

// size is the number of samples of the term's batch in a step.
func (p Phase) size(term, step int) int {
	t := p.Terms[term]
	if term > 0 {
		return min(t.Batch, len(t.Indices))
	}
	batch := min(t.Batch, len(t.Indices))
	return min(batch, len(t.Indices)-step*batch)
}

func (r *run) epoch(ctx context.Context) error {
	for ; r.state.Phase < len(r.Phases); r.state.Phase, r.state.Step = r.state.Phase+1, 0 {
		phase := r.Phases[r.state.Phase]
		for phase.in(r.state.Epoch) && r.state.Step < phase.steps() {
			if err := r.step(); err != nil {
				return fmt.Errorf("epoch %d: %w", r.state.Epoch+1, err)
			}
			r.state.Step++
			if err := r.pause(ctx); err != nil {
				return err
			}
		}
	}
	return r.finishEpoch()
}

// pause reports progress, saves a checkpoint when it is time, and stops if ctx
// was cancelled.
func (r *run) pause(ctx context.Context) error {
	if time.Since(r.told) >= 200*time.Millisecond {
		r.told = time.Now()
		r.Events.Send(r.progress(event.Progress))
	}
	if ctx.Err() != nil {
		if err := r.save(); err != nil {
			return err // alone: being cancelled means that the state is saved
		}
		return ctx.Err()
	}
	if time.Since(r.saved) >= r.CheckpointEvery {
		return r.save()
	}
	return nil
}

func (r *run) finishEpoch() error {
	figures := r.figures()
	if r.AfterEpoch != nil {
		if err := r.save(); err != nil { // scoring may take minutes
			return err
		}
		more, err := r.AfterEpoch(r.state.Epoch + 1)
		if err != nil {
			return err
		}
		for k, v := range more {
			figures[k] = v
		}
	}
	r.state.Figures = append(r.state.Figures, figures)
	r.state.Epoch, r.state.Phase, r.state.Step = r.state.Epoch+1, 0, 0
	clear(r.state.Sums)
	e := r.progress(event.EpochDone)
	e.Epoch, e.Values = r.state.Epoch, figures
	r.Events.Send(e)
	return nil
}

// step does one step of the current phase.
func (r *run) step() error {
	phase := r.Phases[r.state.Phase]
	s := r.Model.NewScope(!phase.Recalibrate)
	defer s.Close()

	var total torch.Tensor
	for i, b := range r.forward(s, phase) {
		losses := s.CrossEntropy(b.logits, b.labels)
		if err := r.addUp(s, i, b, losses); err != nil {
			return err
		}
		loss := phase.Terms[i].loss(s, b, losses)
		if i == 0 {
			total = loss
		} else {
			total = s.Add(total, loss)
		}
	}
	if phase.Recalibrate {
		return s.Err()
	}
	rate, err := r.rate(phase)
	if err != nil {
		return err
	}
	set := phase.SGD
	set.Rate = rate
	r.sgd[r.state.Phase].Descend(s, total, set)
	return s.Err()
}

func (r *run) rate(p Phase) (float64, error) {
	return p.Schedule.At(r.state.Epoch*p.steps()+r.state.Step, p.steps())
}

// passed is a term's batch after the forward pass.
type passed struct {
	indices        []int
	logits, labels torch.Tensor
}

// forward passes every term's samples of the current step through the network.
func (r *run) forward(s *torch.Scope, phase Phase) []passed {
	out := make([]passed, len(phase.Terms))
	var shared []int
	for i, t := range phase.Terms {
		out[i].indices = r.indices(phase, i)
		if i == 0 || t.Shared {
			shared = append(shared, out[i].indices...)
		}
	}
	logits, labels := r.logits(s, phase, phase.Terms[0].Norm, shared)
	begin := 0
	for i, t := range phase.Terms {
		b := &out[i]
		if i > 0 && !t.Shared {
			b.logits, b.labels = r.logits(s, phase, t.Norm, b.indices)
			continue
		}
		b.logits, b.labels = logits, labels
		if n := len(b.indices); n < len(shared) {
			b.logits, b.labels = s.Rows(logits, begin, n), s.Rows(labels, begin, n)
			begin += n
		}
	}
	return out
}

// indices are a term's samples in the current step.
func (r *run) indices(phase Phase, i int) []int {
	t, n := phase.Terms[i], phase.size(i, r.state.Step)
	position := (r.state.Epoch*phase.steps() + r.state.Step) * n
	if i == 0 { // each epoch passes over all samples once, the last batch may be smaller
		position = r.state.Epoch*len(t.Indices) + r.state.Step*min(t.Batch, len(t.Indices))
	}
	return r.draws[r.state.Phase][i].at(position, n)
}

func (r *run) logits(s *torch.Scope, phase Phase, mode torch.NormMode, indices []int) (logits, labels torch.Tensor) {
	images, labels := r.Input.batch(s, indices)
	momentum := -1.0
	if phase.Recalibrate {
		momentum = 1 / float64(r.state.Step+1)
	}
	return r.Model.Forward(s, images, mode, momentum), labels
}

// loss is a term's part of the step's loss.
func (t Term) loss(s *torch.Scope, b passed, losses torch.Tensor) torch.Tensor {
	objective := losses
	if t.Unlikely {
		objective = s.Unlikelihood(b.logits, b.labels)
	}
	if t.Bound > 0 {
		objective = s.MaskBelow(objective, losses, t.Bound)
	}
	loss := s.Mean(objective)
	if t.Weight != 1 {
		loss = s.Scale(loss, t.Weight)
	}
	return loss
}

// sumAt finds the running sum of a term.
func (r *run) sumAt(phase, term int) *sum {
	for _, p := range r.Phases[:phase] {
		term += len(p.Terms)
	}
	return &r.state.Sums[term]
}

func (r *run) addUp(s *torch.Scope, term int, b passed, losses torch.Tensor) error {
	values := make([]float32, len(b.indices))
	predicted := make([]int64, len(b.indices))
	s.ReadFloats(losses, values)
	s.ReadInts(s.Argmax(b.logits), predicted)
	if err := s.Err(); err != nil {
		return err
	}
	sum := r.sumAt(r.state.Phase, term)
	for k, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("step %d: the loss is no longer a number; a lower learning rate may help", r.state.Step+1)
		}
		sum.Loss += float64(v)
		if predicted[k] == int64(r.Input.Set.Labels[b.indices[k]]) {
			sum.Correct++
		}
	}
	sum.Seen += len(b.indices)
	return nil
}

// figures turns the sums of an epoch into means.
func (r *run) figures() EpochFigures {
	f, first := EpochFigures{}, r.first()
	for i, p := range r.Phases {
		for j, t := range p.Terms {
			sum := r.sumAt(i, j)
			if sum.Seen == 0 {
				continue
			}
			prefix := ""
			if i != first || j > 0 {
				prefix = p.Name + "/" + t.Name + "/"
			}
			f[prefix+"loss"] = sum.Loss / float64(sum.Seen)
			f[prefix+"accuracy"] = float64(sum.Correct) / float64(sum.Seen)
		}
	}
	p := r.Phases[first]
	if rate, err := p.Schedule.At((r.state.Epoch+1)*p.steps()-1, p.steps()); err == nil && !p.Recalibrate {
		f["learning_rate"] = rate
	}
	return f
}

// first is the first phase of the epoch in progress.
func (r *run) first() int {
	return max(0, slices.IndexFunc(r.Phases, func(p Phase) bool { return p.in(r.state.Epoch) }))
}

// Images returns the number of images that the whole job passes through the
// network.
func (j Job) Images() int64 { return j.images(j.Epochs) }

// images counts the images of the first epochs.
func (j Job) images(epochs int) int64 {
	n := 0
	for _, p := range j.Phases {
		images := p.images(p.steps())
		for epoch := range epochs {
			if p.in(epoch) {
				n += images
			}
		}
	}
	return int64(n)
}

// images counts the images of a phase's first steps, over all terms.
func (p Phase) images(steps int) int {
	n := 0
	for step := range steps {
		for term := range p.Terms {
			n += p.size(term, step)
		}
	}
	return n
}

// progress describes the state in images.
func (r *run) progress(kind event.Type) event.Event {
	done := r.images(r.state.Epoch)
	for i, p := range r.Phases[:min(r.state.Phase+1, len(r.Phases))] {
		switch {
		case !p.in(r.state.Epoch):
		case i < r.state.Phase:
			done += int64(p.images(p.steps()))
		default:
			done += int64(p.images(r.state.Step))
		}
	}
	e := event.Event{
		Type: kind, Time: time.Now(), Stage: r.Stage, Unit: "images",
		Done: done, Total: r.Images(),
		Epoch: min(r.state.Epoch+1, r.Epochs), Epochs: r.Epochs,
	}
	if sum := r.sumAt(r.first(), 0); sum.Seen > 0 {
		e.Values = map[string]float64{"loss": sum.Loss / float64(sum.Seen), "accuracy": float64(sum.Correct) / float64(sum.Seen)}
	}
	return e
}
