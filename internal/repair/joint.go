package repair

import (
	"cordon/internal/recipe"
	"cordon/internal/train"
)

// Joint reads eq. 3 as one loss: every step descends on a batch of D_c and
// ascends on a batch of D_s, whose weight is the ratio of the two learning
// rates of § 5.5 (1e-4 / 1e-3 = 0.1). It is the default.
func Joint(r recipe.Repair, t Task) []train.Phase {
	terms := []train.Term{descent(r, t)}
	if len(t.Isolated) > 0 {
		terms = append(terms, unlearn(r, t, r.IsolatedBatch, r.IsolatedLearningRate/r.LearningRate))
	}
	return []train.Phase{phase("joint", r, r.LearningRate, terms...)}
}
