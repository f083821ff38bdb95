package repair

import (
	"cordon/internal/recipe"
	"cordon/internal/train"
)

// Alternating reads § 4 ("train and unlearn … respectively") as two passes an
// epoch: descent over D_c at one learning rate, then ascent over D_s at the
// other. Each pass has its own momentum.
func Alternating(r recipe.Repair, t Task) []train.Phase {
	phases := []train.Phase{phase("learn", r, r.LearningRate, descent(r, t))}
	if len(t.Isolated) > 0 {
		phases = append(phases, phase("unlearn", r, r.IsolatedLearningRate, unlearn(r, t, r.Batch, 1)))
	}
	return phases
}
