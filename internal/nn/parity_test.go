package nn

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

// slack is how much further from float64 than PyTorch's own float32 our results
// may be: rounding differs with the order of additions. atLeast is the error
// that is never complained about.
const (
	slack   = 1.5
	atLeast = 2e-6
)

func allowed(pytorch float64) float64 { return max(slack*pytorch, atLeast) }

func TestForwardMatchesPyTorch(t *testing.T) {
	var cases []struct {
		Arch, Stem, Mode string
		Size             int
		Logits           []float64
		Error            float64
		Statistics       float64 // sum of the norms of the batch norm statistics afterwards
	}
	fixture(t, "forward", &cases)
	if want := 24; len(cases) != want {
		t.Fatalf("%d cases, want %d", len(cases), want)
	}
	torchtest.Run(t, func(e *torch.Engine) error {
		var m *Model // shared by the cases of one network, which lie together
		defer func() { m.Close() }()
		for _, c := range cases {
			name := fmt.Sprintf("%s, %s stem, %d×%d, %s", c.Arch, c.Stem, c.Size, c.Size, c.Mode)
			mode := map[string]torch.NormMode{"train": torch.NormTrain, "eval": torch.NormRunning}[c.Mode]
			if m == nil || m.Config.Arch != c.Arch || m.Config.Stem != c.Stem {
				if m != nil {
					m.Close()
				}
				var err error
				if m, err = filled(e, c.Arch, c.Stem); err != nil {
					return err
				}
			}
			if err := fillStatistics(m); err != nil {
				return err
			}
			got, err := logits(m, 4, c.Size, mode)
			if err != nil {
				return err
			}
			// Rounding that a badly conditioned pass has grown a thousandfold
			// differs by more than slack from one library to the other.
			if d := distance(got, c.Logits); d > 2*allowed(c.Error) {
				t.Errorf("%s: relative distance %.2g from float64, PyTorch's is %.2g", name, d, c.Error)
			}
			sum, err := statistics(m)
			if err != nil {
				return err
			}
			if math.Abs(sum/c.Statistics-1) > 1e-5 {
				t.Errorf("%s: norm of the running statistics %v, want %v", name, sum, c.Statistics)
			}
		}
		return nil
	})
}

// fillStatistics undoes what a pass in training mode did.
func fillStatistics(m *Model) error {
	for _, p := range m.Params() {
		if !p.Buffer {
			continue
		}
		if err := m.Write(p, filling(p.Name, p.Shape)); err != nil {
			return err
		}
	}
	return nil
}

// statistics adds up the norms of a model's batch norm statistics.
func statistics(m *Model) (float64, error) {
	var sum float64
	for _, p := range m.Params() {
		if !p.Buffer {
			continue
		}
		v, err := m.Read(p)
		if err != nil {
			return 0, err
		}
		sum += length(v)
	}
	return sum, nil
}

// parameterGradient is the reference of one parameter.
type parameterGradient struct {
	Name      string
	Sum, Norm float64
	Values    []float64 // at bits("sample/"+Name) modulo the size
	// Error is PyTorch's float32 error over the norm, SampleError its distance
	// on Values: the larger of its two memory formats'.
	Error       float64
	SampleError float64 `json:"sample_error"`
}

func TestEveryGradientMatchesPyTorch(t *testing.T) {
	var cases []struct {
		Arch, Stem, Images string
		Size               int
		Lifted             bool
		Parameters         []parameterGradient
	}
	fixture(t, "gradients", &cases)
	if len(cases) != 4 {
		t.Fatalf("%d cases, want 4", len(cases))
	}
	torchtest.Run(t, func(e *torch.Engine) error {
		for _, c := range cases {
			m, err := filled(e, c.Arch, c.Stem)
			if err != nil {
				return err
			}
			defer m.Close()
			if c.Lifted {
				if err := lift(m); err != nil {
					return err
				}
			}
			s := m.NewScope(true)
			defer s.Close()
			s.Backward(s.Mean(s.CrossEntropy(m.Forward(s, batch(s, c.Images, 4, c.Size), torch.NormTrain, -1), targets(s, 4))))
			if err := s.Err(); err != nil {
				return err
			}
			if err := checkGradients(t, m, c.Arch+", "+c.Stem, c.Parameters); err != nil {
				return err
			}
			s.Close()
			m.Close()
		}
		return nil
	})
}

// lift moves every ReLU's input away from 0, by the shifts of batch norm, every second
// channel up and the others down: rounding pushes none across, which would change
// gradients far more than rounding itself.
func lift(m *Model) error {
	for _, p := range m.Params() {
		if !strings.HasSuffix(p.Name, "bias") || strings.HasPrefix(p.Name, "fc") {
			continue
		}
		values := filling(p.Name, p.Shape)
		for i := range values {
			values[i] += 4 * float32(1-2*(i%2))
		}
		if err := m.Write(p, values); err != nil {
			return err
		}
	}
	return nil
}

// checkGradients compares parameter by parameter loosely, for one tensor's error
// depends on chance, and with slack all samples together, in which the last layer's
// weigh most, and the median of the tensors' relative errors, in which none does.
func checkGradients(t *testing.T, m *Model, network string, want []parameterGradient) error {
	var ours, pytorch []float64 // relative errors of each tensor's samples
	var off, allowance, total float64
	k := 0
	for _, p := range m.Params() {
		if p.Buffer {
			continue
		}
		w := want[k]
		k++
		if w.Name != p.Name {
			return fmt.Errorf("gradient %d is of %s, want %s", k, p.Name, w.Name)
		}
		g, err := m.gradient(p)
		if err != nil {
			return err
		}
		if w.Error > .1 { // nothing but rounding: a shift that the next batch norm takes away
			if most := 100 * w.Norm * w.Error; !(length(g) <= most) { // NaN too
				t.Errorf("%s stem: gradient of %s: norm %v, want next to nothing, %v at most", network, p.Name, length(g), most)
			}
			continue
		}
		// A tensor's sum and norm, against the norm's own error.
		tolerance := 3*w.Norm*w.Error + 1e-6*w.Norm
		if d := math.Abs(length(g) - w.Norm); d > tolerance {
			t.Errorf("%s stem: gradient of %s: norm %v, want %v", network, p.Name, length(g), w.Norm)
		}
		var sum float64
		for _, v := range g {
			sum += float64(v)
		}
		// Cauchy–Schwarz: an error of that norm moves the sum by √n at most.
		if d := math.Abs(sum - w.Sum); d > tolerance*math.Sqrt(float64(len(g))) {
			t.Errorf("%s stem: gradient of %s: sum %v, want %v", network, p.Name, sum, w.Sum)
		}
		var d float64
		for i, b := range bits("sample/"+p.Name, len(w.Values)) {
			at := float64(g[int(b)%len(g)]) - w.Values[i]
			d += at * at
			total += w.Values[i] * w.Values[i]
		}
		sampled := math.Sqrt(float64(len(w.Values)) / float64(len(g)))
		if math.Sqrt(d) > 2*max(tolerance*sampled, w.SampleError) {
			t.Errorf("%s stem: gradient of %s: samples %.2g from float64, PyTorch's %.2g", network, p.Name, math.Sqrt(d), w.SampleError)
		}
		off, allowance = off+d, allowance+w.SampleError*w.SampleError
		ours, pytorch = append(ours, math.Sqrt(d)/(w.Norm*sampled)), append(pytorch, w.SampleError/(w.Norm*sampled))
	}
	if k != len(want) {
		return fmt.Errorf("%d gradients, want %d", k, len(want))
	}
	off, allowance = math.Sqrt(off/total), math.Sqrt(allowance/total)
	t.Logf("%s stem: relative error of all gradients %.2g, PyTorch's %.2g", network, off, allowance)
	if !(off <= allowed(allowance)) {
		t.Errorf("%s stem: relative error of all gradients %.2g, PyTorch's is %.2g", network, off, allowance)
	}
	slices.Sort(ours)
	slices.Sort(pytorch)
	one, other := ours[len(ours)/2], pytorch[len(ours)/2]
	t.Logf("%s stem: relative error of a gradient %.2g, PyTorch's %.2g", network, one, other)
	if !(one <= slack*other) {
		t.Errorf("%s stem: relative error of a gradient %.2g, PyTorch's is %.2g", network, one, other)
	}
	return nil
}

// In bfloat16 no pass is close to float64, and ours no further than PyTorch's.
func TestBF16IsAsCloseAsPyTorch(t *testing.T) {
	var cases []struct {
		Arch, Stem  string
		Size        int
		Logits      []float64
		Gradients   map[string][]float64 // at bits("sample/"+name) modulo the size
		LogitsError float64              `json:"logits_error"`
		Error       float64              // of all gradients together
	}
	fixture(t, "bf16", &cases)
	if len(cases) != 4 {
		t.Fatalf("%d cases, want 4", len(cases))
	}
	torchtest.Run(t, func(e *torch.Engine) error {
		for _, c := range cases {
			m, err := filledIn(e, c.Arch, c.Stem, true)
			if err != nil {
				return err
			}
			defer m.Close()
			s := m.NewScope(true)
			defer s.Close()
			n := len(c.Logits) / fixtureClasses
			out, got := m.Forward(s, batch(s, "images", n, c.Size), torch.NormTrain, -1), make([]float32, len(c.Logits))
			s.ReadFloats(out, got)
			s.Backward(s.Mean(s.CrossEntropy(out, targets(s, n))))
			if err := s.Err(); err != nil {
				return err
			}
			var grads []float32
			var want []float64
			for _, p := range m.Params() {
				values, ok := c.Gradients[p.Name]
				if ok == p.Buffer {
					return fmt.Errorf("gradient of %s: in the fixture %v", p.Name, ok)
				}
				if p.Buffer {
					continue
				}
				g, err := m.gradient(p)
				if err != nil {
					return err
				}
				for i, b := range bits("sample/"+p.Name, len(values)) {
					grads, want = append(grads, g[int(b)%len(g)]), append(want, values[i])
				}
			}
			for what, d := range map[string][2]float64{
				"logits":    {distance(got, c.Logits), c.LogitsError},
				"gradients": {distance(grads, want), c.Error},
			} {
				t.Logf("%s, %s stem: %s in bfloat16 %.3g from float64, PyTorch's %.3g", c.Arch, c.Stem, what, d[0], d[1])
				if d[0] > slack*d[1] {
					t.Errorf("%s, %s stem: %s in bfloat16 %.3g from float64, PyTorch's %.3g", c.Arch, c.Stem, what, d[0], d[1])
				}
			}
			s.Close()
			m.Close()
		}
		return nil
	})
}

// train does steps of SGD on one batch of n images and returns the losses.
func train(m *Model, steps, n int, set torch.SGD) ([]float64, error) {
	o, err := m.NewSGD()
	if err != nil {
		return nil, err
	}
	defer o.Close()
	var losses []float64
	for range steps {
		loss := make([]float32, 1)
		s := m.NewScope(true)
		mean := s.Mean(s.CrossEntropy(m.Forward(s, batch(s, "images", n, 16), torch.NormTrain, -1), targets(s, n)))
		o.Descend(s, mean, set)
		s.ReadFloats(mean, loss)
		err := s.Err()
		s.Close()
		if err != nil {
			return nil, err
		}
		losses = append(losses, float64(loss[0]))
	}
	return losses, nil
}

func TestTenStepsMatchPyTorch(t *testing.T) {
	var cases []struct {
		Arch            string
		Nesterov        bool
		Rate            float64
		Batch           int
		Losses, Float32 []float64
	}
	fixture(t, "steps", &cases)
	torchtest.Run(t, func(e *torch.Engine) error {
		for _, c := range cases {
			m, err := filled(e, c.Arch, StemSmall)
			if err != nil {
				return err
			}
			if err := lift(m); err != nil {
				return err
			}
			losses, err := train(m, len(c.Losses), c.Batch, torch.SGD{Rate: c.Rate, Momentum: .9, WeightDecay: 5e-4, Nesterov: c.Nesterov})
			m.Close()
			if err != nil {
				return err
			}
			// Training makes rounding grow, in PyTorch's float32 as in ours: a step may be five
			// times as far from float64 as PyTorch got up to it. A momentum of .899 is off by 2e-3.
			worst := 2e-6
			for i, want := range c.Losses {
				worst = max(worst, math.Abs(c.Float32[i]/want-1))
				ours := math.Abs(losses[i]/want - 1)
				t.Logf("%s, nesterov %v, step %d: loss %.6f, relative error %.1e, PyTorch's %.1e",
					c.Arch, c.Nesterov, i, losses[i], ours, math.Abs(c.Float32[i]/want-1))
				if ours > 5*worst {
					t.Errorf("%s, nesterov %v, step %d: loss %v, want %v", c.Arch, c.Nesterov, i, losses[i], want)
				}
			}
		}
		return nil
	})
}

func TestCrossEntropyPerSample(t *testing.T) {
	var want struct {
		Samples, Classes int
		Losses           []float64
	}
	fixture(t, "cross_entropy", &want)
	torchtest.Run(t, func(e *torch.Engine) error {
		s := e.NewScope(torch.ScopeOptions{Device: torch.CPU})
		defer s.Close()
		values := filling("logits", []int{want.Samples * want.Classes})
		labels := make([]int64, want.Samples)
		for i := range values {
			values[i] *= 100
		}
		for i := range labels {
			labels[i] = int64(i % want.Classes)
		}
		got := make([]float32, want.Samples)
		s.ReadFloats(s.CrossEntropy(s.Floats(values, want.Samples, want.Classes), s.Labels(labels)), got)
		for i, w := range want.Losses {
			if math.Abs(float64(got[i])-w) > 1e-6*max(1, w) {
				t.Errorf("sample %d: %v, want %v", i, got[i], w)
			}
		}
		return s.Err()
	})
}
