// Package nn builds residual networks on the engine, with torchvision's
// structure, parameter names and initialisation, so that their weights move
// between cordon and torchvision unchanged.
package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	"cordon/internal/seed"
	"cordon/internal/torch"
)

// Config says which network is built.
type Config struct {
	Arch    string // a name in Archs
	Stem    string // StemImageNet or StemSmall
	Classes int
}

// The stems: what comes before the first residual block.
const (
	// StemImageNet is a 7×7 convolution of stride 2 and a 3×3 max pool of
	// stride 2, torchvision's own.
	StemImageNet = "imagenet"
	// StemSmall is a 3×3 convolution of stride 1 without a pool, for small images.
	StemSmall = "small"
)

// Channels is the number of input channels of every network. Grey images enter
// as three equal channels, so that the weights fit torchvision's networks.
const Channels = 3

// normMomentum and normEps are PyTorch's defaults.
const (
	normMomentum = 0.1
	normEps      = 1e-5
)

// Param is one entry of the state dictionary.
type Param struct {
	Name  string // torchvision's key, such as layer1.0.conv1.weight
	Shape []int
	// Layer counts weight layers (convolutions on the main path and the final
	// linear layer) in forward order from 0; batch norms and shortcuts belong
	// to the convolution they follow or are added to.
	Layer int
	// Stage is 0 for the stem, 1…4 for the residual stages, 5 for the head.
	Stage int
	// Buffer marks batch norm statistics, which are not trained.
	Buffer bool

	tensor torch.Tensor
	frozen bool
}

// Count returns the number of values.
func (p *Param) Count() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// Model is a network with its weights. Its tensors live in a scope of its own
// until Close. Use it on the engine's thread.
type Model struct {
	Config Config

	engine *torch.Engine
	scope  *torch.Scope
	opt    torch.ScopeOptions
	params []*Param
	layers int
	net    *resnet

	frozenNorm torch.NormMode
}

// New builds a network on a device with torchvision's initialisation, drawn
// from (seed, purpose): Kaiming normal (fan out) for convolutions, one and zero
// for batch norm, U(−1/√n, 1/√n) with n inputs for the final linear layer.
// bf16 makes its convolutions compute in bfloat16.
func New(e *torch.Engine, cfg Config, dev torch.Device, bf16 bool, seedValue uint64, purpose string) (*Model, error) {
	return newModel(e, cfg, dev, bf16, seed.Stream(seedValue, "init/"+purpose))
}

// newModel is New with the stream itself; nil leaves every value 0.
func newModel(e *torch.Engine, cfg Config, dev torch.Device, bf16 bool, random *rand.Rand) (*Model, error) {
	m := &Model{Config: cfg, engine: e, opt: torch.ScopeOptions{Device: dev, BF16: bf16}}
	m.scope = e.NewScope(m.opt)
	b := &builder{model: m, random: random}
	net, err := build(b, cfg)
	if err != nil {
		m.Close()
		return nil, err
	}
	if err := m.scope.Err(); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", cfg.Arch, err)
	}
	m.net, m.layers = net, b.layer
	debug.FreeOSMemory() // the last of the initial values
	return m, nil
}

// Close frees the weights.
func (m *Model) Close() { m.scope.Close() }

// Params returns the state dictionary in torchvision's order, without the
// counters num_batches_tracked.
func (m *Model) Params() []*Param { return m.params }

// NewScope makes a scope on the model's device and in its precision; grad
// records operations for training.
func (m *Model) NewScope(grad bool) *torch.Scope {
	opt := m.opt
	opt.Grad = grad
	return m.engine.NewScope(opt)
}

// Threads is how many threads EachThread uses.
func (m *Model) Threads() int {
	if m.opt.Device != torch.CPU {
		return 1
	}
	return m.engine.Info().Threads
}

// EachThread runs f on each of the engine's threads at once (torch.Engine.EachThread), for a
// model on a CUDA device only on this one. The model must not change meanwhile.
func (m *Model) EachThread(f func() error) error {
	if m.Threads() == 1 {
		return f()
	}
	return m.engine.EachThread(f)
}

// Forward computes the logits (N × classes) of a batch of images
// (N × 3 × H × W). mode is the batch norms' mode; momentum is the weight of
// this batch in the running statistics, PyTorch's 0.1 if negative.
func (m *Model) Forward(s *torch.Scope, x torch.Tensor, mode torch.NormMode, momentum float64) torch.Tensor {
	if momentum < 0 {
		momentum = normMomentum
	}
	return m.net.forward(&pass{Scope: s, model: m, mode: mode, momentum: momentum}, x)
}

// Read copies a parameter's values to the host.
func (m *Model) Read(p *Param) ([]float32, error) {
	v := make([]float32, p.Count())
	m.scope.ReadFloats(p.tensor, v)
	return v, m.scope.Err()
}

// Write overwrites a parameter's values.
func (m *Model) Write(p *Param, values []float32) error {
	if len(values) != p.Count() {
		return fmt.Errorf("%s has %d values, got %d", p.Name, p.Count(), len(values))
	}
	m.scope.SetFloats(p.tensor, values)
	return m.scope.Err()
}

// CopyFrom takes over all weights and statistics of a model of the same structure.
func (m *Model) CopyFrom(src *Model) error {
	if len(src.params) != len(m.params) {
		return fmt.Errorf("cannot copy %s to %s", src.Config.Arch, m.Config.Arch)
	}
	for i, p := range m.params {
		v, err := src.Read(src.params[i])
		if err != nil {
			return err
		}
		if err := m.Write(p, v); err != nil {
			return err
		}
	}
	return nil
}

// Norms copies the batch norm statistics to the host, for SetNorms.
func (m *Model) Norms() ([][]float32, error) {
	var out [][]float32
	for _, p := range m.params {
		if !p.Buffer {
			continue
		}
		v, err := m.Read(p)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// SetNorms puts back what Norms of the same model returned.
func (m *Model) SetNorms(norms [][]float32) error {
	for _, p := range m.params {
		if !p.Buffer {
			continue
		}
		if len(norms) == 0 {
			return fmt.Errorf("no statistics for %s", p.Name)
		}
		if err := m.Write(p, norms[0]); err != nil {
			return err
		}
		norms = norms[1:]
	}
	return nil
}

// pass is one forward pass: the scope and how batch norm behaves in it.
type pass struct {
	*torch.Scope
	model    *Model
	mode     torch.NormMode
	momentum float64
}

// scoped makes a part of the pass in a scope of its own: what it leaves behind is
// freed at its end, or where it is needed for the backward pass, as that proceeds.
func (p *pass) scoped(part func(p *pass) torch.Tensor) torch.Tensor {
	inner := *p
	inner.Scope = p.model.engine.NewScope(p.Options())
	defer inner.Close()
	return inner.Keep(part(&inner), p.Scope)
}

// conv is a convolution without bias.
type conv struct {
	weight          *Param
	stride, padding int
}

func (c *conv) forward(p *pass, x torch.Tensor) torch.Tensor {
	return p.Conv2d(x, c.weight.tensor, c.stride, c.padding)
}

// norm is a batch norm.
type norm struct{ weight, bias, mean, variance *Param }

// rule is how it behaves in a pass. Frozen batch norms follow the model's rule for them
// while training.
func (n *norm) rule(p *pass) (torch.BatchNorm, torch.NormMode) {
	mode := p.mode
	if n.weight.frozen && mode != torch.NormRunning {
		mode = p.model.frozenNorm
	}
	return torch.BatchNorm{
		Weight: n.weight.tensor, Bias: n.bias.tensor,
		RunningMean: n.mean.tensor, RunningVar: n.variance.tensor,
		Momentum: p.momentum, Eps: normEps,
	}, mode
}

// forward normalises, adds the residual unless it is none, and applies ReLU if asked.
func (n *norm) forward(p *pass, x, residual torch.Tensor, relu bool) torch.Tensor {
	of, mode := n.rule(p)
	return p.BatchNorm(x, of, mode, residual, relu)
}

// normalized convolves and normalises.
func (p *pass) normalized(c *conv, n *norm, x, residual torch.Tensor, relu bool) torch.Tensor {
	of, mode := n.rule(p)
	return p.ConvNorm(x, c.weight.tensor, c.stride, c.padding, of, mode, residual, relu)
}

// forked is normalized with ReLU where the network forks: around is x for the other path.
func (p *pass) forked(c *conv, n *norm, x torch.Tensor) (y, around torch.Tensor) {
	of, mode := n.rule(p)
	return p.ConvNormFork(x, c.weight.tensor, c.stride, c.padding, of, mode, true)
}

// pooled is normalized with ReLU and a max pool.
func (p *pass) pooled(c *conv, n *norm, x torch.Tensor) torch.Tensor {
	of, mode := n.rule(p)
	return p.ConvNormPool(x, c.weight.tensor, c.stride, c.padding, of, mode)
}

// linear is the final classifier.
type linear struct{ weight, bias *Param }

func (l *linear) forward(p *pass, x torch.Tensor) torch.Tensor {
	return p.Linear(x, l.weight.tensor, l.bias.tensor)
}

// builder makes parameters in torchvision's order and counts layers. For a model
// without a scope it makes shapes only.
type builder struct {
	model  *Model
	random *rand.Rand // nil leaves every value 0
	values []float32  // of the parameter being made, copied to the device
	layer  int        // weight layers made so far
	stage  int
}

// conv makes the next weight layer.
func (b *builder) conv(name string, in, out, kernel, stride int) *conv {
	c := b.shortcut(name, in, out, kernel, stride, b.layer)
	b.layer++
	return c
}

// shortcut makes a convolution beside the main path, which is not counted but
// belongs to the given layer.
func (b *builder) shortcut(name string, in, out, kernel, stride, layer int) *conv {
	deviation := math.Sqrt(2 / float64(out*kernel*kernel))
	normal := func() float32 { return float32(b.random.NormFloat64() * deviation) }
	w := b.param(name+".weight", layer, false, normal, out, in, kernel, kernel)
	return &conv{weight: w, stride: stride, padding: kernel / 2}
}

// norm makes the batch norm of a layer.
func (b *builder) norm(name string, channels, layer int) *norm {
	one, zero := func() float32 { return 1 }, func() float32 { return 0 }
	return &norm{
		weight:   b.param(name+".weight", layer, false, one, channels),
		bias:     b.param(name+".bias", layer, false, zero, channels),
		mean:     b.param(name+".running_mean", layer, true, zero, channels),
		variance: b.param(name+".running_var", layer, true, one, channels),
	}
}

func (b *builder) linear(name string, in, out int) *linear {
	bound := 1 / math.Sqrt(float64(in))
	uniform := func() float32 { return float32((2*b.random.Float64() - 1) * bound) }
	l := &linear{
		weight: b.param(name+".weight", b.layer, false, uniform, out, in),
		bias:   b.param(name+".bias", b.layer, false, uniform, out),
	}
	b.layer++
	return l
}

// param makes a parameter. Its values are handed over at once: those of all
// parameters together would be a second model.
func (b *builder) param(name string, layer int, buffer bool, initial func() float32, shape ...int) *Param {
	p := &Param{Name: name, Shape: shape, Layer: layer, Stage: b.stage, Buffer: buffer}
	b.model.params = append(b.model.params, p)
	if b.model.scope == nil {
		return p
	}
	b.values = slices.Grow(b.values[:0], p.Count())[:p.Count()]
	for i := range b.values {
		if b.random != nil {
			b.values[i] = initial()
		}
	}
	p.tensor = b.model.scope.Parameter(b.values, !buffer, shape...)
	return p
}
