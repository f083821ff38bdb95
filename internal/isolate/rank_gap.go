package isolate

// rankGap ranks by the loss under M_s minus the loss under M′. Freezing costs
// M′ its clean accuracy but not the trigger (§ 4), so a clean sample is harder
// for M′ and its gap is negative; what M′ finds easy relative to M_s is first.
type rankGap struct{ reduce reduction }

func (r rankGap) Scores(ev Evidence) ([]float64, error) {
	scores, err := ev.losses("base", ev.Base, r.reduce)
	if err != nil {
		return nil, err
	}
	partial, err := ev.losses("partial", ev.Partial, r.reduce)
	if err != nil {
		return nil, err
	}
	for i, loss := range partial {
		scores[i] -= loss // NaN where both are infinite
	}
	return scores, nil
}
