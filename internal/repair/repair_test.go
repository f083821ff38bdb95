package repair

import (
	"math"
	"testing"

	"cordon/internal/recipe"
	"cordon/internal/train"
)

var task = Task{Retained: []int{0, 1, 2, 3}, Isolated: []int{4, 5}, Classes: 10}

func phases(t *testing.T, r recipe.Repair, of Task) []train.Phase {
	t.Helper()
	method, err := New(r.Method)
	if err != nil {
		t.Fatal(err)
	}
	return method(r, of)
}

// The bound on D_c holds while D_s is unlearned. In the fine-tuning all of D_c
// counts, and D_s takes part in few of the steps.
func TestFinetuning(t *testing.T) {
	r := recipe.Default().Repair
	all := phases(t, r, task)
	if len(all) != 2 {
		t.Fatalf("%d phases, want 2", len(all))
	}
	joint, last := all[0], all[1]
	if joint.To != r.Epochs || last.From != r.Epochs+1 {
		t.Errorf("unlearning ends with epoch %d, fine-tuning begins with %d", joint.To, last.From)
	}
	if got, want := joint.Terms[0].Bound, math.Log(10); got != want {
		t.Errorf("unlearning bounds D_c by %v, want %v", got, want)
	}
	if last.Terms[0].Bound != 0 || last.Schedule.Rate != r.FinetuneLearningRate {
		t.Errorf("fine-tuning bounds D_c by %v, its rate is %v", last.Terms[0].Bound, last.Schedule.Rate)
	}
	if joint.Terms[1].Every != 0 || last.Terms[1].Every != FinetuneEvery {
		t.Errorf("D_s in every %d of unlearning, every %d of fine-tuning", joint.Terms[1].Every, last.Terms[1].Every)
	}
}

// Without D_s, and after the alternating form, whose learning has a phase of its
// own, fine-tuning is on D_c alone.
func TestFinetuningOnRetainedAlone(t *testing.T) {
	r := recipe.Default().Repair
	empty := task
	empty.Isolated = nil
	alternating := r
	alternating.Method = "alternating"
	for name, all := range map[string][]train.Phase{
		"nothing isolated": phases(t, r, empty), "alternating": phases(t, alternating, task),
	} {
		last := all[len(all)-1]
		if last.Name != "finetune" || len(last.Terms) != 1 || last.Terms[0].Name != "retained" || last.Terms[0].Bound == 0 {
			t.Errorf("%s: the last phase is %+v", name, last)
		}
	}
}

func TestNoFinetuning(t *testing.T) {
	r := recipe.Default().Repair
	r.FinetuneEpochs = 0
	if all := phases(t, r, task); len(all) != 1 || all[0].Name != "joint" {
		t.Errorf("phases %+v", all)
	}
}

func TestUnknownRepair(t *testing.T) {
	if _, err := New("magic"); err == nil {
		t.Error("an unknown repair is found")
	}
}
