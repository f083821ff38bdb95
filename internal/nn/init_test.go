package nn

import (
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"testing"

	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

// shapesOf builds a network without values.
func shapesOf(t *testing.T, cfg Config) *Model {
	t.Helper()
	m := &Model{Config: cfg}
	b := &builder{model: m}
	if _, err := build(b, cfg); err != nil {
		t.Fatal(err)
	}
	m.layers = b.layer
	return m
}

func TestStateDictionaryIsTorchvisions(t *testing.T) {
	var cases []struct {
		Arch, Stem, SHA256 string
		Count              int
	}
	fixture(t, "structure", &cases)
	pinned := map[string]int{"resnet18": 11689512, "resnet34": 21797672, "resnet50": 25557032}
	for _, c := range cases {
		m := shapesOf(t, Config{Arch: c.Arch, Stem: c.Stem, Classes: 1000})
		listing := sha256.New()
		for _, p := range m.Params() {
			fmt.Fprintf(listing, "%s %v\n", p.Name, p.Shape)
		}
		if got := fmt.Sprintf("%x", listing.Sum(nil)); got != c.SHA256 {
			t.Errorf("%s, %s stem: names, shapes or order differ from PyTorch's", c.Arch, c.Stem)
		}
		if got := m.trained(); got != c.Count {
			t.Errorf("%s, %s stem: %d parameters, want %d", c.Arch, c.Stem, got, c.Count)
		}
		if want := pinned[c.Arch]; c.Stem == StemImageNet && want != 0 && c.Count != want {
			t.Errorf("%s: the fixture has %d parameters, torchvision documents %d", c.Arch, c.Count, want)
		}
	}
	for arch, want := range map[string]int{"resnet18": 18, "resnet34": 34, "resnet50": 50, "preact_resnet18": 18} {
		if got := shapesOf(t, Config{Arch: arch, Stem: StemSmall, Classes: 10}).layers; got != want {
			t.Errorf("%s has %d weight layers", arch, got)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Arch: "resnet19", Stem: StemSmall, Classes: 10},
		{Arch: "resnet18", Stem: "big", Classes: 10},
		{Arch: "resnet18", Stem: StemSmall, Classes: 1},
	} {
		if _, err := build(&builder{model: &Model{}}, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// TestInitialWeights compares every tensor's statistics with a draw of
// torchvision's, within the error of two samples, and with the distribution.
func TestInitialWeights(t *testing.T) {
	var cases []struct {
		Arch    string
		Tensors []struct {
			Name           string
			Mean, Std, Max float64
		}
	}
	fixture(t, "initial", &cases)
	torchtest.Run(t, func(e *torch.Engine) error {
		for _, c := range cases {
			m, err := New(e, Config{Arch: c.Arch, Stem: StemImageNet, Classes: fixtureClasses}, torch.CPU, false, 1, "test")
			if err != nil {
				return err
			}
			defer m.Close()
			for i, p := range m.Params() {
				v, err := m.Read(p)
				if err != nil {
					return err
				}
				want := c.Tensors[i]
				mean, std, largest := moments(v)
				n := float64(len(v))
				// Five times the deviation of the difference of two samples.
				if math.Abs(mean-want.Mean) > 5*want.Std*math.Sqrt(2/n)+1e-9 || math.Abs(std-want.Std) > 5*want.Std*math.Sqrt(1/n)+1e-9 {
					t.Errorf("%s: %s: mean %.4g, deviation %.4g, torchvision's %.4g and %.4g", c.Arch, p.Name, mean, std, want.Mean, want.Std)
				}
				switch {
				case len(p.Shape) == 4:
					theory := math.Sqrt(2 / float64(p.Shape[0]*p.Shape[2]*p.Shape[3]))
					if math.Abs(std/theory-1) > 5*math.Sqrt(.5/n) {
						t.Errorf("%s: %s: deviation %.5g, want %.5g", c.Arch, p.Name, std, theory)
					}
				case strings.HasPrefix(p.Name, "fc."):
					bound := 1 / math.Sqrt(float64(m.Params()[len(m.Params())-2].Shape[1]))
					if largest > bound || want.Max > bound || largest < bound*(1-10/n) {
						t.Errorf("%s: %s: largest value %v, want nearly %v", c.Arch, p.Name, largest, bound)
					}
				}
			}
			m.Close()
		}
		return nil
	})
}

func moments(v []float32) (mean, std, largest float64) {
	for _, x := range v {
		mean += float64(x) / float64(len(v))
		largest = max(largest, math.Abs(float64(x)))
	}
	for _, x := range v {
		std += (float64(x) - mean) * (float64(x) - mean) / float64(len(v))
	}
	return mean, math.Sqrt(std), largest
}

// small builds the network that most tests train: ResNet-18, small stem.
func small(e *torch.Engine, seed uint64, purpose string) (*Model, error) {
	return New(e, Config{Arch: "resnet18", Stem: StemSmall, Classes: fixtureClasses}, torch.CPU, false, seed, purpose)
}

func TestInitialWeightsComeFromSeedAndPurpose(t *testing.T) {
	torchtest.Run(t, func(e *torch.Engine) error {
		first := map[string]float32{}
		for _, c := range []struct {
			name, purpose string
			seed          uint64
		}{{"one", "base", 1}, {"again", "base", 1}, {"another seed", "base", 2}, {"another purpose", "partial", 1}} {
			m, err := small(e, c.seed, c.purpose)
			if err != nil {
				return err
			}
			v, err := m.Read(m.Params()[0])
			m.Close()
			if err != nil {
				return err
			}
			first[c.name] = v[0]
		}
		if first["one"] != first["again"] || first["one"] == first["another seed"] || first["one"] == first["another purpose"] {
			t.Errorf("first weights: %v", first)
		}
		return nil
	})
}
