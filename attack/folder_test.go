package attack_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/dataset"
)

// TestTruthOfFolder poisons a folder set, which is read back in another order,
// and finds every poisoned sample where the truth says.
func TestTruthOfFolder(t *testing.T) {
	ctx := context.Background()
	source := attacktest.Set(attack.Shape{Height: 16, Width: 16, Channels: 3}, 40)
	source.Format = "folder"
	a := attack.DefaultBadNets()
	trigger, err := a.Trigger(attack.ShapeOf(source))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := attack.NewPlan(source, attack.PlanOptions{Rate: .2, Target: 3, Mode: attack.DirtyLabel})
	if err != nil {
		t.Fatal(err)
	}
	poisoned, err := attack.Apply(ctx, source, plan, trigger)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "poisoned")
	written, err := dataset.Write(ctx, dir, poisoned, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := attack.NewTruth(source, plan, a)
	if err != nil {
		t.Fatal(err)
	}
	if err := truth.Remap(func(old int) int { return written.Index[old] }); err != nil {
		t.Fatal(err)
	}
	back, err := dataset.Open(ctx, dir, dataset.Train, dataset.Options{Size: 16})
	if err != nil {
		t.Fatal(err)
	}
	oldIndex := map[int]int{}
	for _, i := range plan.Indices {
		oldIndex[written.Index[i]] = i
	}
	moved := false
	for _, c := range truth.Changed {
		i, ok := oldIndex[c.Index]
		if !ok || !bytes.Equal(back.Image(c.Index), poisoned.Image(i)) || back.Labels[c.Index] != 3 {
			t.Errorf("sample %d read back is not the poisoned sample %d", c.Index, i)
		}
		if c.Label != source.Labels[i] {
			t.Errorf("sample %d had label %d, the truth says %d", c.Index, source.Labels[i], c.Label)
		}
		moved = moved || c.Index != i
	}
	if !moved {
		t.Error("the order did not change, so nothing was tested")
	}
}
