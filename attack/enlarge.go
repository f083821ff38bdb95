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
	out := *t
	out.Variants, out.VariantSeed = slices.Clone(variants), seedValue
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

// validateVariants checks that every variant of an image was changed alike.
func (t *Truth) validateVariants() error {
	if len(t.Variants) == 0 {
		return nil
	}
	if t.Samples%len(t.Variants) != 0 {
		return fmt.Errorf("%d samples are no multiple of %d variants", t.Samples, len(t.Variants))
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
