package train

import (
	"fmt"

	"cordon/dataset"
	"cordon/internal/nn"
	"cordon/internal/recipe"
)

// Sample takes the training samples that a recipe asks for, and returns them
// with their positions in the set.
func Sample(set *dataset.Set, r recipe.Recipe) (*dataset.Set, []int) {
	if r.Data.Sample == 0 || r.Data.Sample >= set.Len() {
		return set, All(set.Len())
	}
	positions := set.Sample(r.Data.Sample, r.Seed)
	return set.Subset(positions), positions
}

// NewInput prepares a training set for the network: with the mean and deviation
// of its own pixels ("dataset") or torchvision's constants ("imagenet").
func NewInput(set *dataset.Set, normalize string) (Input, error) {
	switch normalize {
	case "imagenet":
		return Input{Set: set, Mean: nn.ImageNetMean, Std: nn.ImageNetStd}, nil
	case "dataset":
		mean, std := set.Stats()
		return Input{Set: set, Mean: channels(mean, 0), Std: channels(std, minStd)}, nil
	}
	return Input{}, fmt.Errorf("unknown normalization %q: want dataset or imagenet", normalize)
}

// minStd keeps a set of constant images from being divided by zero.
const minStd = 1.0 / 255

// channels repeats a grey channel's constant for the network's three.
func channels(values []float64, least float64) []float32 {
	out := make([]float32, nn.Channels)
	for i := range out {
		v := values[0]
		if len(values) == nn.Channels {
			v = values[i]
		}
		out[i] = float32(max(v, least))
	}
	return out
}
