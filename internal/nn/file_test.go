package nn

import (
	"path/filepath"
	"strings"
	"testing"

	"cordon/internal/safetensors"
	"cordon/internal/torch"
)

// Without an engine: a file that does not hold what it describes must be refused
// before any memory is taken for the network.
func TestLoadChecksShapesFirst(t *testing.T) {
	d := Description{
		Arch: "resnet18", Stem: StemImageNet, Classes: make([]string, 3_000_000),
		Mean: ImageNetMean, Std: ImageNetStd,
	}
	resnet := emptyTensors(t, Config{Arch: "resnet18", Stem: StemImageNet, Classes: 2})
	for _, c := range []struct {
		name    string
		tensors []safetensors.Tensor
		want    string
	}{
		{"classes made up", resnet, `"fc.weight" has shape [2 512], the network needs [3000000 512]`},
		{"no tensors", nil, `no tensor "conv1.weight"`},
	} {
		file := filepath.Join(t.TempDir(), "model.safetensors")
		if err := write(file, c.tensors, d); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(nil, file, torch.CPU, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// The weights of ResNet-34 include some of every name and shape in ResNet-18.
func TestLoadRefusesMoreTensors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	d := Description{
		Arch: "resnet18", Stem: StemSmall, Classes: []string{"ape", "bee"},
		Mean: ImageNetMean, Std: ImageNetStd,
	}
	if err := write(file, emptyTensors(t, Config{Arch: "resnet34", Stem: StemSmall, Classes: 2}), d); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(nil, file, torch.CPU, false); err == nil || !strings.Contains(err.Error(), "tensors") {
		t.Errorf("got %v", err)
	}
}

// emptyTensors are a network's, all zeros.
func emptyTensors(t *testing.T, cfg Config) []safetensors.Tensor {
	t.Helper()
	var out []safetensors.Tensor
	for _, p := range shapesOf(t, cfg).params {
		out = append(out, Tensor(p.Name, p.Shape, make([]float32, p.Count())))
	}
	return out
}
