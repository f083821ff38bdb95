// Package defense runs whole defenses: from a suspicious data set to a clean
// model.
//
// A defense never sees which samples are poisoned: this package must not import
// cordon/attack, and a test enforces it.
package defense

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cordon/internal/event"
	"cordon/internal/isolate"
	"cordon/internal/nn"
	"cordon/internal/recipe"
	"cordon/internal/repair"
	"cordon/internal/rundir"
	"cordon/internal/torch"
	"cordon/internal/train"
)

// Env is what a defense works with.
type Env struct {
	Engine *torch.Engine
	Device torch.Device
	Recipe recipe.Recipe
	Train  train.Input  // the suspicious set D
	Test   *train.Input // clean images for ACC, nil if there are none
	Dir    *rundir.Dir
	Events event.Sink
	// CheckpointEvery is the time between two checkpoints.
	CheckpointEvery time.Duration
}

// Stage is one timed part of a defense.
type Stage struct {
	Name    string
	Seconds float64
	Images  int64 // passed through a network for training
	// Epochs is nil where only batch norm statistics were learned.
	Epochs []train.EpochFigures
}

// Outcome is the result of a defense. The models are files of the run folder.
type Outcome struct {
	Stages []Stage
	// Base and Partial hold the sample losses under M_s and M′, by epoch; an
	// epoch that was not scored is nil, the last one never is.
	Base, Partial [][]float32
	isolate.Division
	// Accuracy on the test images by model name, nil without a test set.
	Accuracy map[string]float64
}

// Names of the models in Outcome.Accuracy.
const (
	Base              = "M_s"
	BaseRecalibrated  = "M_s recalibrated"
	Clean             = "M_c"
	CleanRecalibrated = "M_c recalibrated"
)

// The trainings of the method. M_s and M′ name their sample losses too.
var (
	baseStage = training{
		name: rundir.Base, file: rundir.BaseModel,
		title: "train the base model M_s on everything",
	}
	partialStage = training{
		name: rundir.Partial, file: rundir.PartialModel,
		title: "train the partial model M′, its first layers frozen",
	}
	repairStage = training{
		name: "repair", file: rundir.CleanModel,
		title: "unlearn the isolated samples from M_s: the clean model M_c",
	}
	baseNormsStage = training{
		name: "recalibrate-base", file: rundir.BaseNorms, norms: true,
		title: "recompute the batch norm statistics of M_s",
	}
	cleanNormsStage = training{
		name: "recalibrate-clean", file: rundir.CleanNorms, norms: true,
		title: "recompute the batch norm statistics of M_c over the retained samples",
	}
)

// pt is one run of partial training.
type pt struct {
	Env
	ctx context.Context
	out Outcome
}

// PartialTraining is the paper's method (§ 4): train M_s on D, train M′ with
// its first layers frozen, isolate the samples with the lowest loss, unlearn
// them from M_s. Stages that the run folder already holds are not run again.
func PartialTraining(ctx context.Context, env Env) (*Outcome, error) {
	p := &pt{Env: env, ctx: ctx}
	steps := []func() error{p.base, p.partial, p.isolate, p.recalibrateBase}
	if repair.Wanted(env.Recipe.Repair) {
		steps = append(steps, p.repair, p.recalibrateClean)
	}
	for _, step := range append(steps, p.evaluate) {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &p.out, nil
}

// base trains M_s on all of D (eq. 2).
func (p *pt) base() error {
	err := p.stage(baseStage, func() (*nn.Model, train.Job, error) {
		m, err := p.fresh(baseStage.name)
		return m, p.scored(m, baseStage.name, p.Recipe.Base), err
	})
	if err != nil {
		return err
	}
	p.out.Base, err = p.Dir.ReadScores(baseStage.name, p.Recipe.Base.Epochs, p.Train.Set.Len())
	return err
}

// partial trains M′: fresh, its first layers frozen at their initial values.
func (p *pt) partial() error {
	set := p.Recipe.Partial
	err := p.stage(partialStage, func() (*nn.Model, train.Job, error) {
		m, err := p.fresh(partialStage.name)
		if err != nil {
			return nil, train.Job{}, err
		}
		if set.FrozenInit == "base" {
			err = p.copyBase(m)
		}
		if err == nil {
			err = m.Freeze(set.FrozenFraction, set.FrozenUnit, frozenNorm(set.FrozenNorm))
		}
		return m, p.scored(m, partialStage.name, set.Train), err
	})
	if err != nil {
		return err
	}
	p.out.Partial, err = p.Dir.ReadScores(partialStage.name, set.Epochs, p.Train.Set.Len())
	return err
}

func frozenNorm(name string) torch.NormMode {
	if name == "running" {
		return torch.NormRunning
	}
	return torch.NormTrain
}

// isolate divides D into D_s and D_c by the losses (§ 4, third step).
func (p *pt) isolate() error {
	evidence := isolate.Evidence{Labels: p.Train.Set.Labels, Base: p.out.Base, Partial: p.out.Partial}
	var err error
	if p.out.Division, err = isolate.Divide(p.Recipe.Isolate, evidence); err != nil {
		return err
	}
	p.Events.Send(event.Event{Type: event.Note, Time: time.Now(), Stage: "isolate",
		Message: fmt.Sprintf("isolated %d of %d samples", len(p.out.Isolated), p.Train.Set.Len())})
	return nil
}

// repair turns M_s into M_c (eq. 3).
func (p *pt) repair() error {
	set := p.Recipe.Repair
	method, err := repair.New(set.Method)
	if err != nil {
		return err
	}
	return p.stage(repairStage, func() (*nn.Model, train.Job, error) {
		m, err := p.load(rundir.BaseModel)
		task := repair.Task{Retained: p.out.Retained, Isolated: p.out.Isolated, Classes: len(p.Train.Set.Classes)}
		job := p.job(m, repairStage.name, repair.Epochs(set), method(set, task))
		if set.ScoreEpochs {
			job.AfterEpoch = func(int) (map[string]float64, error) { return p.testAccuracy(m, repairStage.name) }
		}
		return m, job, err
	})
}

// recalibrateBase recomputes the batch norm statistics of M_s over D.
func (p *pt) recalibrateBase() error {
	return p.recalibrate(baseNormsStage, rundir.BaseModel, train.All(p.Train.Set.Len()))
}

// recalibrateClean recomputes those of M_c over D_c: a repair that only these
// statistics carry vanishes under it.
func (p *pt) recalibrateClean() error {
	return p.recalibrate(cleanNormsStage, rundir.CleanModel, p.out.Retained)
}

func (p *pt) recalibrate(s training, model string, samples []int) error {
	return p.stage(s, func() (*nn.Model, train.Job, error) {
		m, err := p.load(model)
		term := train.Term{Name: "retained", Indices: samples, Batch: p.Recipe.Base.Batch, Weight: 1, Norm: torch.NormTrain}
		return m, p.job(m, s.name, 1, []train.Phase{{Name: "statistics", Recalibrate: true, Terms: []train.Term{term}}}), err
	})
}

// evaluate takes the accuracy of every model on the test images.
func (p *pt) evaluate() error {
	if p.Test == nil {
		return nil
	}
	p.out.Accuracy = map[string]float64{}
	for _, c := range Models(p.Recipe) {
		value, err := p.evaluateModel(c)
		if err != nil {
			return err
		}
		p.out.Accuracy[c.Name] = value
	}
	return nil
}

// evaluateModel is a stage of its own, so that its result survives a kill.
func (p *pt) evaluateModel(c ModelFiles) (accuracy float64, err error) {
	stage := evaluation(c)
	if done, err := p.Dir.Marked(stage, &accuracy); done || err != nil {
		return accuracy, err
	}
	m, err := p.load(c.Weights)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	if c.Norms != "" {
		if err := nn.LoadNorms(p.Dir.Path(c.Norms), m); err != nil {
			return 0, err
		}
	}
	figures, err := p.testAccuracy(m, stage)
	if err != nil {
		return 0, err
	}
	return figures["test_accuracy"], p.Dir.Mark(stage, figures["test_accuracy"])
}

func evaluation(c ModelFiles) string { return "evaluate-" + strings.ReplaceAll(c.Name, " ", "-") }

// ModelFiles are the files of one model of a run.
type ModelFiles struct{ Name, Weights, Norms string }

// Models lists the models of a run: M_s and, where it is repaired, M_c, each as
// trained and with its batch norm statistics recomputed.
func Models(r recipe.Recipe) []ModelFiles {
	models := []ModelFiles{{Base, rundir.BaseModel, ""}, {BaseRecalibrated, rundir.BaseModel, rundir.BaseNorms}}
	if repair.Wanted(r.Repair) {
		models = append(models, ModelFiles{Clean, rundir.CleanModel, ""}, ModelFiles{CleanRecalibrated, rundir.CleanModel, rundir.CleanNorms})
	}
	return models
}
