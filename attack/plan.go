package attack

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"cordon/dataset"
	"cordon/internal/seed"
)

// Plan fixes a poisoning of source: which samples each part changes, drawn
// from the seed, each candidate equally likely, and which label they get.
// Stratified parts draw equally likely within each class.
// First all parts draw their poisoned samples, in their order, then their cover
// samples, so covers never change which samples are poisoned. With the same
// seed a smaller rate takes a part of a larger rate's samples.
//
// It refuses what Part.Validate refuses, more samples than there are candidates
// left, and a rate above 0 that is less than half a sample; it returns
// ctx's error when cancelled.
func Plan(ctx context.Context, source *dataset.Set, seedValue uint64, parts []Part) (*Truth, error) {
	t := &Truth{
		Version: TruthVersion, Seed: seedValue, Parts: slices.Clone(parts), Shape: ShapeOf(source),
		Classes: slices.Clone(source.Classes), Samples: source.Len(), hashed: source,
	}
	err := t.validateParts()
	if err != nil {
		return nil, err
	}
	if t.Source, err = source.Fingerprint(ctx); err != nil {
		return nil, err
	}
	d := drawing{truth: t, labels: source.Labels, taken: make([]bool, source.Len())}
	for _, role := range roles() {
		random := seed.Stream(seedValue, streams[role])
		for k := range parts {
			if err := d.draw(random, k, role); err != nil {
				return nil, t.inPart(k, err)
			}
		}
	}
	slices.SortFunc(t.Changed, func(a, b Changed) int { return cmp.Compare(a.Index, b.Index) })
	return t, t.Validate()
}

// streams are the purposes of the random numbers that choose samples.
var streams = map[Role]string{Poisoned: "poison/select", Cover: "poison/cover"}

// rateNames are the rates in messages.
var rateNames = map[Role]string{Poisoned: "poison", Cover: "cover"}

// drawing is a plan in progress.
type drawing struct {
	truth  *Truth
	labels []int32
	taken  []bool
}

// draw gives a role to round(rate·N) samples that are eligible by their label
// and not taken. The shuffle covers all eligible ones, so that it does not
// depend on the rates of earlier parts.
func (d *drawing) draw(random *rand.Rand, part int, role Role) error {
	p := d.truth.Parts[part]
	var candidates []int
	for i, label := range d.labels {
		if p.eligible(role, label) {
			candidates = append(candidates, i)
		}
	}
	random.Shuffle(len(candidates), func(i, j int) {
		candidates[i], candidates[j] = candidates[j], candidates[i]
	})
	candidates = slices.DeleteFunc(candidates, func(i int) bool { return d.taken[i] })
	if p.Stratified {
		d.stratify(candidates)
	}
	rate := p.rate(role)
	count := countOf(rate, len(d.labels))
	switch {
	case count == 0 && rate > 0:
		return fmt.Errorf("%s rate %v of %d samples rounds to none", rateNames[role], rate, len(d.labels))
	case count > len(candidates):
		return fmt.Errorf("%s rate %v of %d samples is %d, but there are only %d %s",
			rateNames[role], rate, len(d.labels), count, len(candidates), d.whose(part, role))
	}
	for _, i := range candidates[:count] {
		d.taken[i] = true
		c := Changed{Index: i, Source: i, Part: part, Role: role, Label: d.labels[i]}
		c.Given = d.given(c)
		d.truth.Changed = append(d.truth.Changed, c)
	}
	return nil
}

// stratify reorders shuffled candidates so that the first n, for every n, have each
// class's share of n, rounded (Webster's method): the j-th of a class of m goes to
// (j - ½)/m of the way. A class with less than half a sample to give gives none.
func (d *drawing) stratify(candidates []int) {
	of, seen := map[int32]int{}, map[int32]int{}
	for _, i := range candidates {
		of[d.labels[i]]++
	}
	place := make(map[int]float64, len(candidates))
	for _, i := range candidates {
		label := d.labels[i]
		place[i] = (float64(seen[label]) + .5) / float64(of[label])
		seen[label]++
	}
	slices.SortStableFunc(candidates, func(a, b int) int { return cmp.Compare(place[a], place[b]) })
}

// given is the label a changed sample gets.
func (d *drawing) given(c Changed) int32 {
	p, classes := d.truth.Parts[c.Part], len(d.truth.Classes)
	switch {
	case c.Role == Cover:
		return c.Label
	case p.Mode == AllToAll:
		return next(c.Label, classes)
	case p.Mode == LabelNoise:
		other := seed.Stream(d.truth.Seed, "poison/label", uint64(c.Source)).IntN(classes - 1)
		return (c.Label + 1 + int32(other)) % int32(classes)
	}
	return int32(p.Target)
}

// whose says which samples are candidates.
func (d *drawing) whose(part int, role Role) string {
	p := d.truth.Parts[part]
	left := ""
	if len(d.truth.Parts) > 1 || role == Cover {
		left = "left "
	}
	switch {
	case !p.Mode.Targeted():
		return fmt.Sprintf("%s(%s)", left, p.Mode)
	case role == Poisoned && p.Mode == CleanLabel:
		return fmt.Sprintf("%sof the target class %q (%s)", left, d.truth.Classes[p.Target], p.Mode)
	}
	return fmt.Sprintf("%soutside the target class %q (%s)", left, d.truth.Classes[p.Target], p.Mode)
}
