package train

import (
	"cordon/dataset"
	"cordon/internal/seed"
	"cordon/internal/torch"
)

// Input is a data set with the constants that normalise its pixels:
// (value/255 − Mean) / Std for each of the network's three channels.
type Input struct {
	Set       *dataset.Set
	Mean, Std []float32
}

// batch copies samples, as bytes, and hands them to the engine, which
// normalises them.
func (in Input) batch(s *torch.Scope, indices []int) (images, labels torch.Tensor) {
	set, size := in.Set, in.Set.ImageBytes()
	pixels := make([]byte, len(indices)*size)
	targets := make([]int64, len(indices))
	for i, k := range indices {
		copy(pixels[i*size:], set.Image(k))
		targets[i] = int64(set.Labels[k])
	}
	images = s.Images(pixels, len(indices), set.Height, set.Width, set.Channels, in.Mean, in.Std)
	return images, s.Labels(targets)
}

// draw is an endless sequence of samples: a fresh permutation of the indices in
// every round. It is a function of the position alone, so that a resumed
// training draws what it would have drawn.
type draw struct {
	seed    uint64
	purpose string
	indices []int

	round int
	order []int
}

func newDraw(seedValue uint64, purpose string, indices []int) *draw {
	return &draw{seed: seedValue, purpose: purpose, indices: indices, round: -1}
}

// at returns n samples from a position on.
func (d *draw) at(position, n int) []int {
	out := make([]int, n)
	for i := range out {
		round, k := (position+i)/len(d.indices), (position+i)%len(d.indices)
		if round != d.round {
			d.round = round
			d.order = seed.Stream(d.seed, d.purpose, uint64(round)).Perm(len(d.indices))
		}
		out[i] = d.indices[d.order[k]]
	}
	return out
}
