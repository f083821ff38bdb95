package inspect

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"

	"cordon/dataset"
)

// picture is one image of the set, on its way through the search for copies.
type picture struct {
	part  *Part
	index int
	split dataset.Split
}

func (p *Part) pictures(split dataset.Split) []picture {
	out := make([]picture, p.Set.Len())
	for i := range out {
		out[i] = picture{p, i, split}
	}
	return out
}

func (p picture) named() Image {
	s := p.part.Set
	return Image{Split: p.split, Key: s.Key(p.index), Class: s.Classes[s.Labels[p.index]]}
}

// digest is equal for equal images. The pixels as read are part of it, because
// several samples may be cut from one file.
func (p picture) digest() [sha256.Size]byte {
	h := sha256.New()
	if p.part.FileImages != nil {
		h.Write(p.part.FileImages[p.index].Digest[:])
	}
	h.Write(p.part.Set.Image(p.index))
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

// findCopies fills in everything about exact and near copies.
func (r *Report) findCopies(ctx context.Context, all []picture) error {
	digests := make([][sha256.Size]byte, len(all))
	err := each(ctx, len(all), func(i int) error {
		digests[i] = all[i].digest()
		return nil
	})
	if err != nil {
		return err
	}
	equal := map[[sha256.Size]byte][]picture{}
	for i, d := range digests {
		equal[d] = append(equal[d], all[i])
	}
	var distinct []picture // the first of each, in the order of the set
	r.Copies = []Group{}
	for i, d := range digests {
		members := equal[d]
		if members[0] != all[i] {
			continue
		}
		distinct = append(distinct, all[i])
		r.count(members)
		if len(members) > 1 {
			r.Copies = append(r.Copies, newGroup(members))
		}
	}
	sortGroups(r.Copies)
	r.Near, err = findNear(ctx, distinct)
	return err
}

// count adds one distinct image with all its copies.
func (r *Report) count(members []picture) {
	inTrain := 0
	for _, m := range members {
		if m.split == dataset.Train {
			inTrain++
		}
	}
	inTest := len(members) - inTrain
	r.Train.add(inTrain)
	if r.Test != nil {
		r.Test.add(inTest)
	}
	if inTrain > 0 && inTest > 0 {
		r.Across.Distinct++
		r.Across.Train += inTrain
		r.Across.Test += inTest
	}
}

func (s *Split) add(copies int) {
	if copies > 0 {
		s.Distinct++
		s.Copies += copies - 1
	}
}

func newGroup(members []picture) Group {
	g := Group{Images: make([]Image, len(members))}
	for i, m := range members {
		g.Images[i] = m.named()
		g.DifferentLabels = g.DifferentLabels || g.Images[i].Class != g.Images[0].Class
		g.BothSplits = g.BothSplits || g.Images[i].Split != g.Images[0].Split
	}
	return g
}

// sortGroups puts different labels first, then larger groups; else the order
// stays.
func sortGroups(groups []Group) {
	slices.SortStableFunc(groups, func(a, b Group) int {
		switch {
		case a.DifferentLabels == b.DifferentLabels:
			return cmp.Compare(len(b.Images), len(a.Images))
		case a.DifferentLabels:
			return -1
		}
		return 1
	})
}
