package nn

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cordon/internal/torch"
)

// fixture reads what tools/parity/nn.py wrote: from testdata, or fresh from the
// folder CORDON_FIXTURES.
func fixture(t *testing.T, name string, into any) {
	t.Helper()
	folder := os.Getenv("CORDON_FIXTURES")
	if folder == "" {
		folder = "testdata"
	}
	text, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// bits, filling, batch and targets are the formulas of tools/parity/nn.py.
func bits(name string, n int) []uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	out := make([]uint32, n)
	for i := range out {
		x := uint32(i)*0x9E3779B1 + h
		x ^= x >> 16
		x *= 0x85EBCA6B
		x ^= x >> 13
		x *= 0xC2B2AE35
		out[i] = x ^ x>>16
	}
	return out
}

func filling(name string, shape []int) []float32 {
	n := 1
	for _, d := range shape {
		n *= d
	}
	out := make([]float32, n)
	for i, b := range bits(name, n) {
		u := float64(b)/(1<<31) - 1
		switch {
		case len(shape) == 4:
			u *= math.Sqrt(6 / float64(shape[0]*shape[2]*shape[3]))
		case len(shape) == 2:
			u *= math.Sqrt(1 / float64(shape[1]))
		case strings.HasSuffix(name, "running_var"):
			u = 1 + u/2
		case strings.HasSuffix(name, "weight"):
			u = 1 + u/4
			if strings.Contains(name, ".bn3.") {
				u /= 4
			}
		default:
			u /= 8
		}
		out[i] = float32(u)
	}
	return out
}

const fixtureClasses = 10

func batch(s *torch.Scope, name string, n, size int) torch.Tensor {
	pixels := make([]byte, n*size*size*Channels)
	for i, b := range bits(name, len(pixels)) {
		pixels[i] = byte(b)
	}
	return s.Images(pixels, n, size, size, Channels, []float32{.5, .5, .5}, []float32{.25, .25, .25})
}

func targets(s *torch.Scope, n int) torch.Tensor {
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = int64(i * 7 % fixtureClasses)
	}
	return s.Labels(labels)
}

// filled builds a network with the formula's weights.
func filled(e *torch.Engine, arch, stem string) (*Model, error) {
	return filledIn(e, arch, stem, false)
}

func filledIn(e *torch.Engine, arch, stem string, bf16 bool) (*Model, error) {
	m, err := New(e, Config{Arch: arch, Stem: stem, Classes: fixtureClasses}, torch.CPU, bf16, 0, "test")
	if err != nil {
		return nil, err
	}
	for _, p := range m.Params() {
		if err := m.Write(p, filling(p.Name, p.Shape)); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

// logits runs one forward pass of n images.
func logits(m *Model, n, size int, mode torch.NormMode) ([]float32, error) {
	s := m.NewScope(false)
	defer s.Close()
	out := make([]float32, n*m.Config.Classes)
	s.ReadFloats(m.Forward(s, batch(s, "images", n, size), mode, -1), out)
	return out, s.Err()
}

// distance is ‖got − want‖ / ‖want‖.
func distance(got []float32, want []float64) float64 {
	var d, w float64
	for i := range want {
		d += (float64(got[i]) - want[i]) * (float64(got[i]) - want[i])
		w += want[i] * want[i]
	}
	return math.Sqrt(d / w)
}

func length(v []float32) float64 {
	var s float64
	for _, x := range v {
		s += float64(x) * float64(x)
	}
	return math.Sqrt(s)
}

// gradient copies the gradient collected by a parameter to the host.
func (m *Model) gradient(p *Param) ([]float32, error) {
	s := m.NewScope(false)
	defer s.Close()
	v := make([]float32, p.Count())
	s.ReadFloats(s.Grad(p.tensor), v)
	return v, s.Err()
}

// trained returns the number of values that training changes.
func (m *Model) trained() int {
	n := 0
	for _, p := range m.params {
		if !p.Buffer && !p.frozen {
			n += p.Count()
		}
	}
	return n
}
