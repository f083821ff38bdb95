package dataset

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestFingerprint(t *testing.T) {
	read := func() *Set { return open(t, tree(t, idxTree()), Train, 0) }
	want := fingerprint(t, read())
	if len(want) != 64 || fingerprint(t, read()) != want {
		t.Fatalf("fingerprints %s and %s", want, fingerprint(t, read()))
	}
	for name, change := range map[string]func(*Set){
		"pixel":   func(s *Set) { s.Pixels[3]++ },
		"label":   func(s *Set) { s.Labels[0] = 1 },
		"shape":   func(s *Set) { s.Height, s.Width = s.Width, s.Height },
		"classes": func(s *Set) { s.Classes = append(s.Classes, "3") },
	} {
		s := read()
		if change(s); fingerprint(t, s) == want {
			t.Errorf("a changed %s is not seen", name)
		}
	}
	s := read()
	s.Name, s.Classes = "elsewhere", []string{"a", "b", "c"}
	if fingerprint(t, s) != want {
		t.Error("names enter the fingerprint")
	}
}

func TestFingerprintStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, tree(t, idxTree()), Train, 0).Fingerprint(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSubset(t *testing.T) {
	set := open(t, tree(t, idxTree()), Train, 0)
	sub := set.Subset([]int{4, 1, 5}).Subset([]int{2, 0})
	if sub.Key(0) != "#5" || sub.Key(1) != "#4" || !slices.Equal(sub.Labels, []int32{0, 1}) {
		t.Errorf("keys %s %s, labels %v", sub.Key(0), sub.Key(1), sub.Labels)
	}
	if !slices.Equal(sub.Image(1), set.Image(4)) {
		t.Error("pixels differ")
	}
	if &sub.Image(1)[0] != &set.Image(4)[0] {
		t.Error("a subset copies the pixels of its set")
	}
	copied := *sub
	copied.image, copied.Pixels = nil, slices.Concat(set.Image(5), set.Image(4))
	if fingerprint(t, sub) != fingerprint(t, &copied) {
		t.Error("a subset has another fingerprint than a copy of its images")
	}
	for _, s := range []*Set{set, sub, &copied} {
		if err := s.CheckPixels(); err != nil {
			t.Error(err)
		}
	}
	copied.Pixels = copied.Pixels[1:]
	if copied.CheckPixels() == nil {
		t.Error("a missing pixel is not seen")
	}
	folder := open(t, tree(t, folderTree(t)), Train, 8)
	if got := folder.Subset([]int{3}).Key(0); got != "train/dog/c.png" {
		t.Errorf("key %s", got)
	}
}

func TestSample(t *testing.T) {
	set := &Set{Classes: []string{"a", "b", "c"}, Labels: make([]int32, 1000)}
	for i := range set.Labels {
		switch {
		case i%10 == 0:
			set.Labels[i] = 2 // 100
		case i%2 == 0:
			set.Labels[i] = 1 // 400
		}
	}
	for _, c := range []struct {
		n    int
		want []int
	}{{0, []int{0, 0, 0}}, {-5, []int{0, 0, 0}}, {10, []int{5, 4, 1}}, {11, []int{6, 4, 1}}, {99, []int{49, 40, 10}}, {1000, []int{500, 400, 100}}, {5000, []int{500, 400, 100}}} {
		idx := set.Sample(c.n, 7)
		counts := make([]int, 3)
		for _, i := range idx {
			counts[set.Labels[i]]++
		}
		if !slices.Equal(counts, c.want) {
			t.Errorf("sample of %d has %v per class, want %v", c.n, counts, c.want)
		}
		if !slices.IsSorted(idx) || len(slices.Compact(slices.Clone(idx))) != len(idx) {
			t.Errorf("sample of %d is not sorted and distinct", c.n)
		}
		if !slices.Equal(idx, set.Sample(c.n, 7)) {
			t.Error("the same seed draws differently")
		}
	}
	if slices.Equal(set.Sample(100, 7), set.Sample(100, 8)) {
		t.Error("another seed draws the same")
	}
}

func TestStats(t *testing.T) {
	set := &Set{Classes: []string{"a", "b"}, Height: 1, Width: 2, Channels: 3, Labels: []int32{0, 1},
		Pixels: []byte{0, 51, 255, 0, 51, 0, 0, 51, 255, 0, 51, 0}}
	mean, std := set.Stats()
	for c, want := range [][2]float64{{0, 0}, {0.2, 0}, {0.5, 0.5}} {
		if math.Abs(mean[c]-want[0]) > 1e-12 || math.Abs(std[c]-want[1]) > 1e-7 {
			t.Errorf("channel %d: mean %v, deviation %v, want %v", c, mean[c], std[c], want)
		}
	}
	if got := set.Counts(); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("counts %v", got)
	}
}
