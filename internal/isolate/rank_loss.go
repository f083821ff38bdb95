package isolate

// rankLoss ranks by the cross-entropy −ln p_y under one model. "loss" puts
// the lowest first: the trigger is learned early (§ 4, third step).
// "high-loss" puts the highest first: while a subtle trigger is not learned
// yet, its relabelled samples are simply mislabelled.
//
// Reverse cross-entropy, −Σ_k p_k ln q_k with ln 0 := A < 0 for the one-hot
// label q, equals −A·(1 − p_y). Like cross-entropy it only falls as p_y
// rises, so it ranks the samples the same and is no option here.
type rankLoss struct {
	base   bool // M_s's losses instead of M′'s
	high   bool
	reduce reduction
}

func (r rankLoss) Scores(ev Evidence) ([]float64, error) {
	model, epochs := "partial", ev.Partial
	if r.base {
		model, epochs = "base", ev.Base
	}
	scores, err := ev.losses(model, epochs, r.reduce)
	if err != nil || r.high {
		return scores, err
	}
	for i := range scores {
		scores[i] = -scores[i]
	}
	return scores, nil
}
