// Package repair says what is done with the isolated samples to turn the base
// model M_s into the clean model M_c.
//
// A repair is a list of training phases; the training loop runs them. Each
// method is one file and one line in New.
package repair

import (
	"fmt"
	"math"

	"cordon/internal/recipe"
	"cordon/internal/torch"
	"cordon/internal/train"
)

// Task is what a repair works on.
type Task struct {
	Retained, Isolated []int // D_c and D_s; D_s may be empty, then nothing is unlearned
	Classes            int
}

// Repair makes the phases that lead from M_s to M_c.
type Repair func(r recipe.Repair, t Task) []train.Phase

// New finds a repair by its name in a recipe.
func New(name string) (Repair, error) {
	switch name {
	case "joint":
		return finetuned(Joint), nil
	case "alternating":
		return finetuned(Alternating), nil
	}
	return nil, fmt.Errorf("unknown repair %q: want joint or alternating", name)
}

// Wanted is false for the method "none": the isolated samples are listed, and
// M_s stays the undefended baseline.
func Wanted(r recipe.Repair) bool { return r.Method != "none" }

// Epochs is the number of epochs of a repair.
func Epochs(r recipe.Repair) int { return r.Epochs + r.FinetuneEpochs }

// finetuned lets epochs of descent on D_c alone follow.
func finetuned(repair Repair) Repair {
	return func(r recipe.Repair, t Task) []train.Phase {
		phases := repair(r, t)
		for i := range phases {
			phases[i].To = r.Epochs
		}
		if r.FinetuneEpochs == 0 {
			return phases
		}
		last := phase("finetune", r, r.FinetuneLearningRate, descent(r, t))
		last.Schedule.Name, last.From = "constant", r.Epochs+1
		return append(phases, last)
	}
}

// descent is the term that keeps the accuracy: cross-entropy on D_c. Poison that
// the isolation missed has a high loss once the trigger is unlearned; the bound
// keeps it from teaching the trigger again.
func descent(r recipe.Repair, t Task) train.Term {
	return train.Term{
		Name: "retained", Indices: t.Retained, Batch: r.Batch, Weight: 1, Norm: torch.NormTrain,
		Bound: t.bound(r.RetainedBound),
	}
}

// bound is a cross-entropy in units of that of a guess.
func (t Task) bound(guesses float64) float64 { return guesses * math.Log(float64(t.Classes)) }

// unlearn is the term that unlearns D_s, where a sample stops counting once its
// cross-entropy exceeds the bound. "ascent" is eq. 3's −CE; its gradient is
// 1 − p, which vanishes for the samples that a trained M_s is surest of, and
// those are the poisoned ones. "unlikelihood", −log(1 − p), has the gradient p.
func unlearn(r recipe.Repair, t Task, batch int, weight float64) train.Term {
	term := train.Term{
		Name: "isolated", Indices: t.Isolated, Batch: batch, Weight: -weight,
		Bound: t.bound(r.Bound), Norm: norm(r.IsolatedNorm), Shared: r.IsolatedNorm == "shared",
	}
	if r.Objective == "unlikelihood" {
		term.Unlikely, term.Weight = true, weight
	}
	return term
}

// norm turns a recipe's word into a batch norm mode.
func norm(name string) torch.NormMode {
	switch name {
	case "running":
		return torch.NormRunning
	case "update", "shared":
		return torch.NormTrain
	}
	return torch.NormBatch
}

// phase is SGD as the recipe has it, at a highest rate.
func phase(name string, r recipe.Repair, rate float64, terms ...train.Term) train.Phase {
	p := train.SGDPhase(name, r.Train, terms...)
	p.Schedule.Rate = rate
	return p
}
