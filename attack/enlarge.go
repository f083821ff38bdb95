package attack

import (
	"errors"
	"fmt"
	"slices"

	"cordon/dataset"
)

// Enlarge returns the truth of the poisoned set enlarged afterwards, so that a
// trigger is cropped, mirrored and recoloured with its image: what
// dataset.Set.Enlarge makes of t's set with the same variants and seed. The paper
// does not say whether TSRD was poisoned before or after it was enlarged (§ 5.1).
func (t *Truth) Enlarge(variants []dataset.Variant, seedValue uint64) (*Truth, error) {
	if len(t.Variants) > 0 {
		return nil, errors.New("the poisoned set is enlarged already")
	}
	if len(variants) == 0 {
		return nil, errors.New("no variants to enlarge by")
	}
	if err := dataset.CheckVariants(variants, t.Shape.Channels); err != nil {
		return nil, err
	}
	out := *t
	out.Variants, out.VariantSeed, out.Poisoned = slices.Clone(variants), seedValue, ""
	out.Samples, out.Changed = t.Samples*len(variants), nil
	for v := range variants {
		for _, c := range t.Changed {
			c.Index, c.Source = v*t.Samples+c.Index, v*t.Samples+c.Source
			out.Changed = append(out.Changed, c)
		}
	}
	return &out, out.Validate()
}

// sourceSamples is how many samples the source has.
func (t *Truth) sourceSamples() int { return t.Samples / max(1, len(t.Variants)) }

// validateVariants checks the variants, and that every one of an image was changed
// alike.
func (t *Truth) validateVariants() error {
	switch {
	case len(t.Variants) == 0 && t.VariantSeed != 0:
		return errors.New("a seed of variants without variants")
	case len(t.Variants) == 0:
		return nil
	case t.Samples%len(t.Variants) != 0:
		return fmt.Errorf("%d samples are no multiple of %d variants", t.Samples, len(t.Variants))
	}
	if err := dataset.CheckVariants(t.Variants, t.Shape.Channels); err != nil {
		return err
	}
	alike := map[Changed]int{}
	for _, c := range t.Changed {
		c.Index, c.Source = 0, c.Source%t.sourceSamples()
		alike[c]++
	}
	for c, count := range alike {
		if count != len(t.Variants) {
			return fmt.Errorf("source %d is changed in %d of %d variants", c.Source, count, len(t.Variants))
		}
	}
	return nil
}

// enlarged returns a set of the source's size in t's variants.
func (t *Truth) enlarged(set *dataset.Set) (*dataset.Set, error) {
	if len(t.Variants) == 0 {
		return set, nil
	}
	return set.Enlarge(t.Variants, t.VariantSeed)
}
