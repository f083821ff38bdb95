package defense

import (
	"context"
	"testing"

	"cordon/internal/torch/torchtest"
)

// TestEstimateCountsTheWork compares the shares with what the stages of a run
// report. A finished run has none left: every share names a stage.
func TestEstimateCountsTheWork(t *testing.T) {
	e := torchtest.Open(t)
	for _, method := range []string{"none", "joint", "alternating"} {
		r := tiny()
		r.Base.ScoreEpochs, r.Repair.Method = true, method
		p := newPT(t, e, r)
		err := e.Do(p.ctx, func() error {
			if left, err := Estimate(context.Background(), p.Env); left <= 0 || err != nil {
				t.Errorf("%s: %v are left of a run that did not begin, %v", method, left, err)
			}
			shares, err := p.shares()
			if err != nil {
				return err
			}
			done, err := PartialTraining(p.ctx, p.Env)
			if err != nil {
				return err
			}
			learned := map[string]int{}
			for _, s := range shares {
				learned[s.stage] = s.learned
			}
			for _, s := range done.Stages {
				if s.Name != baseNormsStage.name && s.Name != cleanNormsStage.name && int(s.Images) != learned[s.Name] {
					t.Errorf("%s: %s learned from %d images, expected were %d", method, s.Name, s.Images, learned[s.Name])
				}
			}
			if left, err := Estimate(context.Background(), p.Env); left != 0 || err != nil {
				t.Errorf("%s: %v are left of a finished run, %v", method, left, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
