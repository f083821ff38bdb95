package attack_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/dataset"
	"cordon/internal/catalog"
)

// TestCopyIsThePlanApplied writes poisoned sets in every format and finds in
// them, sample by sample, what the plan makes of the source in memory. A folder
// is read back in another order; the truth names both positions.
func TestCopyIsThePlanApplied(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		format string
		shape  attack.Shape
		moves  bool
	}{
		{"idx", grey, false},
		{"cifar10", colour, false},
		{"cifar100", colour, false},
		{"folder", attack.Shape{Height: 16, Width: 16, Channels: 3}, true},
		{"csv", attack.Shape{Height: 16, Width: 16, Channels: 3}, false},
		{"jsonl", attack.Shape{Height: 16, Width: 16, Channels: 3}, false},
	} {
		source := attacktest.Set(c.shape, 600) // enough for each of a hundred classes to keep some
		source.Format = c.format
		if classes := map[string]int{"cifar10": 10, "cifar100": 100}[c.format]; classes > 0 {
			for i := len(source.Classes); i < classes; i++ {
				source.Classes = append(source.Classes, fmt.Sprint("class ", i))
			}
			for i := range source.Labels {
				source.Labels[i] = int32(i % classes)
			}
		}
		parts := []attack.Part{
			with(part(attack.DirtyLabel, 3, .2), func(p *attack.Part) { p.CoverRate = .1 }),
			part(attack.AllToAll, -1, .1), noise(.1),
		}
		planned, err := attack.Plan(t.Context(), source, 1, parts)
		if err != nil {
			t.Fatal(err)
		}
		inMemory, err := planned.Apply(ctx, source, catalog.AttackFromSpec)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "poisoned")
		written, err := dataset.Write(ctx, dir, inMemory, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := planned.Remap(func(old int) int { return written.Index[old] }); err != nil {
			t.Fatal(err)
		}
		back, err := dataset.Open(ctx, dir, dataset.Train, dataset.Options{Size: c.shape.Height})
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range written.Index {
			if !bytes.Equal(back.Image(at), inMemory.Image(i)) || back.Labels[at] != inMemory.Labels[i] {
				t.Errorf("%s: sample %d differs on disk and in memory", c.format, i)
			}
		}
		moved := false
		for _, s := range planned.Changed {
			if written.Index[s.Source] != s.Index || back.Labels[s.Index] != s.Given || source.Labels[s.Source] != s.Label {
				t.Errorf("%s: the truth about %+v is not what was written", c.format, s)
			}
			moved = moved || s.Index != s.Source
		}
		if moved != c.moves {
			t.Errorf("%s: order changed: %v, so the test is not the one meant", c.format, moved)
		}
		again, err := planned.Apply(ctx, source, catalog.AttackFromSpec)
		if err != nil {
			t.Fatal(err)
		}
		if fingerprint(t, again) != fingerprint(t, inMemory) {
			t.Errorf("%s: the truth of the copy does not make the same pixels", c.format)
		}
	}
}

// TestApplyToStoredSet poisons a set whose pixels are mapped from a store, where
// a write would end the process.
func TestApplyToStoredSet(t *testing.T) {
	ctx := context.Background()
	written := attacktest.Set(attack.Shape{Height: 16, Width: 16, Channels: 3}, 40)
	written.Format = "csv"
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := dataset.Write(ctx, dir, written, nil, nil); err != nil {
		t.Fatal(err)
	}
	poison := func(opt dataset.Options) string {
		source, err := dataset.Open(ctx, dir, dataset.Train, opt)
		if err != nil {
			t.Fatal(err)
		}
		planned, err := attack.Plan(t.Context(), source, 1, []attack.Part{part(attack.DirtyLabel, 3, .2)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := planned.Apply(ctx, source, catalog.AttackFromSpec)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		return fingerprint(t, out)
	}
	inMemory := poison(dataset.Options{Size: 16})
	stored := poison(dataset.Options{Size: 16, Store: t.TempDir()})
	if stored != inMemory {
		t.Error("poisoned differently from a store and from memory")
	}
}

func fingerprint(t *testing.T, s *dataset.Set) string {
	t.Helper()
	sum, err := s.Fingerprint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
