package defense

import (
	"fmt"
	"time"

	"cordon/internal/event"
	"cordon/internal/metric"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/rundir"
	"cordon/internal/torch"
	"cordon/internal/train"
)

// training is a stage that trains a model and stores it.
type training struct {
	name  string // also of its mark, its checkpoint and its random streams
	title string // what it does, for people
	file  string // where the result goes
	norms bool   // it learns, and stores, the batch norm statistics only
}

// stage runs one training and stores its model, unless its mark says that it
// is done. make builds the model and the job.
func (p *pt) stage(s training, make func() (*nn.Model, train.Job, error)) error {
	var outcome train.Outcome
	done, err := p.Dir.Marked(s.name, &outcome)
	if err != nil {
		return err
	}
	if done {
		p.Events.Send(event.Event{Type: event.StageSkip, Time: time.Now(), Stage: s.name})
	} else if outcome, err = p.trainStage(s, make); err != nil {
		return err
	}
	stage := Stage{Name: s.name, Seconds: outcome.Seconds, Images: outcome.Images}
	if !s.norms {
		stage.Epochs = outcome.Epochs
	}
	p.out.Stages = append(p.out.Stages, stage)
	return train.DropCheckpoint(p.Dir.Checkpoint(s.name))
}

func (p *pt) trainStage(s training, make func() (*nn.Model, train.Job, error)) (train.Outcome, error) {
	m, job, err := make()
	if m != nil {
		defer m.Close()
	}
	if err != nil {
		return train.Outcome{}, fmt.Errorf("%s: %w", s.name, err)
	}
	p.start(s, job.Images())
	outcome, err := train.Run(p.ctx, job)
	if err != nil {
		return outcome, err
	}
	if err := p.store(m, s); err != nil {
		return outcome, fmt.Errorf("%s: %w", s.name, err)
	}
	p.finish(s, outcome)
	return outcome, p.Dir.Mark(s.name, outcome)
}

func (p *pt) store(m *nn.Model, s training) error {
	save := nn.Save
	if s.norms {
		save = nn.SaveNorms
	}
	return save(p.Dir.Path(s.file), m, p.description())
}

func (p *pt) start(s training, images int64) {
	p.Events.Send(event.Event{Type: event.StageStart, Time: time.Now(), Stage: s.name, Total: images, Unit: "images", Message: s.title})
}

func (p *pt) finish(s training, outcome train.Outcome) {
	p.Events.Send(event.Event{Type: event.StageDone, Time: time.Now(), Stage: s.name, Done: outcome.Images, Unit: "images",
		Values: map[string]float64{"seconds": outcome.Seconds}})
}

// fresh makes a model with random initial values of its own.
func (p *pt) fresh(purpose string) (*nn.Model, error) {
	cfg := nn.Config{Arch: p.Recipe.Model.Arch, Stem: p.Recipe.Model.Stem, Classes: len(p.Train.Set.Classes)}
	return nn.New(p.Engine, cfg, p.Device, p.bf16(), p.Recipe.Seed, purpose)
}

func (p *pt) load(file string) (*nn.Model, error) {
	m, _, err := nn.Load(p.Engine, p.Dir.Path(file), p.Device, p.bf16())
	return m, err
}

func (p *pt) bf16() bool { return p.Recipe.Model.Precision == "bf16" }

// copyBase gives m the weights of M_s.
func (p *pt) copyBase(m *nn.Model) error {
	base, err := p.load(rundir.BaseModel)
	if err != nil {
		return err
	}
	defer base.Close()
	return m.CopyFrom(base)
}

func (p *pt) job(m *nn.Model, stage string, epochs int, phases []train.Phase) train.Job {
	return train.Job{
		Stage: stage, Model: m, Input: p.Train, Seed: p.Recipe.Seed, Epochs: epochs, Phases: phases,
		Checkpoint: p.Dir.Checkpoint(stage), CheckpointEvery: p.CheckpointEvery, Events: p.Events,
	}
}

// scored is an ordinary training on all of D that records the sample losses
// after the epochs the recipe asks for, and always after the last.
func (p *pt) scored(m *nn.Model, stage string, set recipe.Train) train.Job {
	all := train.All(p.Train.Set.Len())
	term := train.Term{Name: "all", Indices: all, Batch: set.Batch, Weight: 1, Norm: torch.NormTrain}
	job := p.job(m, stage, set.Epochs, []train.Phase{train.SGDPhase("train", set, term)})
	job.AfterEpoch = func(epoch int) (map[string]float64, error) {
		if !set.ScoreEpochs && epoch < set.Epochs {
			return nil, nil
		}
		var figures map[string]float64
		err := p.scoring(m, stage, func() error {
			scores, err := train.Score(p.ctx, m, p.Train, all, stage+"/score", p.Events)
			if err != nil {
				return err
			}
			if err := p.Dir.WriteScores(stage, epoch, scores.Losses); err != nil {
				return err
			}
			figures, err = p.testAccuracy(m, stage)
			return err
		})
		return figures, err
	}
	return job
}

// scoring runs f with the batch norm statistics that the recipe asks for.
func (p *pt) scoring(m *nn.Model, stage string, f func() error) error {
	if p.Recipe.Isolate.ScoreNorm == "running" {
		return f()
	}
	return train.Recalibrated(p.ctx, m, p.Train, p.Recipe.Seed, stage, f)
}

// testAccuracy is empty where there is no test set.
func (p *pt) testAccuracy(m *nn.Model, stage string) (map[string]float64, error) {
	if p.Test == nil {
		return nil, nil
	}
	set := p.Test.Set
	scores, err := train.Score(p.ctx, m, *p.Test, train.All(set.Len()), stage+"/test", p.Events)
	if err != nil {
		return nil, err
	}
	accuracy, err := metric.Accuracy(scores.Predictions, set.Labels)
	return map[string]float64{"test_accuracy": accuracy}, err
}

func (p *pt) description() nn.Description {
	set := p.Train.Set
	return nn.Description{
		Arch: p.Recipe.Model.Arch, Stem: p.Recipe.Model.Stem, Classes: set.Classes,
		Height: set.Height, Width: set.Width, Channels: set.Channels,
		Mean: p.Train.Mean, Std: p.Train.Std,
	}
}
