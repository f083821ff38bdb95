package train

import (
	"slices"
	"testing"
)

func TestDrawIsAPermutationEveryRound(t *testing.T) {
	indices := []int{2, 3, 5, 7, 11, 13, 17, 19}
	d := newDraw(1, "test", indices)
	rounds := [][]int{d.at(0, 8), d.at(8, 8), d.at(16, 8)}
	for i, round := range rounds {
		if sorted := slices.Sorted(slices.Values(round)); !slices.Equal(sorted, indices) {
			t.Errorf("round %d draws %v", i, round)
		}
	}
	if slices.Equal(rounds[0], rounds[1]) || slices.Equal(rounds[1], rounds[2]) {
		t.Errorf("rounds draw the same order: %v", rounds)
	}
	// A resumed training starts anywhere, also across two rounds.
	want := slices.Concat(rounds...)[5:12]
	if got := newDraw(1, "test", indices).at(5, 7); !slices.Equal(got, want) {
		t.Errorf("positions 5 to 11: %v, want %v", got, want)
	}
	if slices.Equal(newDraw(1, "other", indices).at(0, 8), rounds[0]) {
		t.Error("another purpose draws the same")
	}
}

// A second term goes on where it stopped the epoch before: it sees all its
// samples before any of them twice.
func TestSecondTermDrawsOverEpochs(t *testing.T) {
	first, second := All(6), []int{10, 11, 12, 13, 14, 15, 16, 17}
	phase := Phase{Terms: []Term{{Indices: first, Batch: 3}, {Indices: second, Batch: 2}}}
	r := run{draws: [][]*draw{{newDraw(1, "first", first), newDraw(1, "second", second)}}}
	var drawn []int
	for epoch := range 2 {
		for step := range phase.steps() {
			r.state.Epoch, r.state.Step = epoch, step
			drawn = append(drawn, r.indices(phase, 1)...)
		}
	}
	if slices.Sort(drawn); !slices.Equal(drawn, second) {
		t.Errorf("two epochs of 4 draw %v", drawn)
	}
}
