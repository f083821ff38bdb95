package repair

import (
	"math"
	"testing"

	"cordon/internal/recipe"
	"cordon/internal/train"
)

func phases(t *testing.T, r recipe.Repair) []train.Phase {
	t.Helper()
	method, err := New(r.Method)
	if err != nil {
		t.Fatal(err)
	}
	return method(r, Task{Retained: []int{0, 1, 2, 3}, Isolated: []int{4, 5}, Classes: 10})
}

// Fine-tuning follows on D_c alone, with the bound that keeps missed poison from
// counting: without it 590 of 6,000 brought the trigger back (docs/results/mnist.md).
func TestFinetuning(t *testing.T) {
	for _, name := range []string{"joint", "alternating"} {
		r := recipe.Default().Repair
		r.Method = name
		all := phases(t, r)
		last := all[len(all)-1]
		if last.Name != "finetune" || last.From != r.Epochs+1 || last.Schedule.Rate != r.FinetuneLearningRate {
			t.Errorf("%s: the last phase is %+v", name, last)
		}
		if len(last.Terms) != 1 || last.Terms[0].Name != "retained" || last.Terms[0].Bound != math.Log(10) {
			t.Errorf("%s: fine-tuning has the terms %+v", name, last.Terms)
		}
		for _, p := range all[:len(all)-1] {
			if p.To != r.Epochs {
				t.Errorf("%s: %s ends with epoch %d, want %d", name, p.Name, p.To, r.Epochs)
			}
		}
	}
}

func TestNoFinetuning(t *testing.T) {
	r := recipe.Default().Repair
	r.FinetuneEpochs = 0
	if all := phases(t, r); len(all) != 1 || all[0].Name != "joint" {
		t.Errorf("phases %+v", all)
	}
}

func TestUnknownRepair(t *testing.T) {
	if _, err := New("magic"); err == nil {
		t.Error("an unknown repair is found")
	}
}
