package torch

import "unsafe"

// NormMode says which statistics batch norm uses.
type NormMode int32

// The batch norm modes.
const (
	NormTrain   NormMode = 0 // of the batch, which update the running ones
	NormBatch   NormMode = 1 // of the batch; the running ones are left alone
	NormRunning NormMode = 2 // the running ones: evaluation mode
)

// BatchNorm holds the tensors and constants of one batch norm.
type BatchNorm struct {
	Weight, Bias, RunningMean, RunningVar Tensor
	Momentum, Eps                         float64
}

// Conv2d convolves x (N×C×H×W) with weight (O×C×K×K), without bias.
func (s *Scope) Conv2d(x, weight Tensor, stride, padding int) Tensor {
	return Tensor{s.lib.Conv2d(s.ptr, x.id, weight.id, int64(stride), int64(padding))}
}

// BatchNorm normalises x per channel, then adds residual unless it is none,
// then applies ReLU if asked.
func (s *Scope) BatchNorm(x Tensor, n BatchNorm, mode NormMode, residual Tensor, relu bool) Tensor {
	return Tensor{s.lib.BatchNorm(s.ptr, x.id, n.Weight.id, n.Bias.id, n.RunningMean.id, n.RunningVar.id,
		int32(mode), n.Momentum, n.Eps, residual.id, flag(relu))}
}

// ConvNorm is BatchNorm of Conv2d with the given kernel. In evaluation (NormRunning, a
// scope without Grad) the two are one operation, which uses the residual up.
func (s *Scope) ConvNorm(x, kernel Tensor, stride, padding int, n BatchNorm, mode NormMode, residual Tensor, relu bool) Tensor {
	return s.convNorm(x, kernel, stride, padding, n, mode, residual, relu, nil)
}

// ConvNormFork is ConvNorm without a residual. Its second result is x for a path around the
// layer: the gradient that comes back along it is added to in the layer's own product.
func (s *Scope) ConvNormFork(x, kernel Tensor, stride, padding int, n BatchNorm, mode NormMode, relu bool) (y, around Tensor) {
	y = s.convNorm(x, kernel, stride, padding, n, mode, Tensor{}, relu, &around.id)
	return y, around
}

func (s *Scope) convNorm(x, kernel Tensor, stride, padding int, n BatchNorm, mode NormMode, residual Tensor, relu bool, around *int64) Tensor {
	return Tensor{s.lib.ConvNorm(s.ptr, x.id, kernel.id, int64(stride), int64(padding), n.Weight.id, n.Bias.id,
		n.RunningMean.id, n.RunningVar.id, int32(mode), n.Momentum, n.Eps, residual.id, flag(relu), around)}
}

// ConvNormPool is ConvNorm with ReLU, then MaxPool2d of 3×3 windows, stride 2 and padding 1.
// Training makes no image of what is pooled.
func (s *Scope) ConvNormPool(x, kernel Tensor, stride, padding int, n BatchNorm, mode NormMode) Tensor {
	return Tensor{s.lib.ConvNormPool(s.ptr, x.id, kernel.id, int64(stride), int64(padding), n.Weight.id, n.Bias.id,
		n.RunningMean.id, n.RunningVar.id, int32(mode), n.Momentum, n.Eps)}
}

// Add returns a + b.
func (s *Scope) Add(a, b Tensor) Tensor { return Tensor{s.lib.Add(s.ptr, a.id, b.id)} }

// MaxPool2d takes the maximum over kernel × kernel windows.
func (s *Scope) MaxPool2d(x Tensor, kernel, stride, padding int) Tensor {
	return Tensor{s.lib.MaxPool2d(s.ptr, x.id, int64(kernel), int64(stride), int64(padding))}
}

// GlobalAvgPool averages over height and width: N×C×H×W to N×C.
func (s *Scope) GlobalAvgPool(x Tensor) Tensor { return Tensor{s.lib.GlobalAvgPool(s.ptr, x.id)} }

// Linear returns x·weightᵀ + bias in float32.
func (s *Scope) Linear(x, weight, bias Tensor) Tensor {
	return Tensor{s.lib.Linear(s.ptr, x.id, weight.id, bias.id)}
}

// Matmul returns the matrix product a·b.
func (s *Scope) Matmul(a, b Tensor) Tensor { return Tensor{s.lib.Matmul(s.ptr, a.id, b.id)} }

// CrossEntropy returns every sample's cross-entropy (natural logarithm) of
// logits (N×classes) and labels (N).
func (s *Scope) CrossEntropy(logits, labels Tensor) Tensor {
	return Tensor{s.lib.CrossEntropy(s.ptr, logits.id, labels.id)}
}

// Unlikelihood returns every sample's −log(1 − p), where p is the probability
// of its label: the loss for unlearning a label, as cross-entropy, −log p, is
// the one for learning it.
func (s *Scope) Unlikelihood(logits, labels Tensor) Tensor {
	return Tensor{s.lib.Unlikelihood(s.ptr, logits.id, labels.id)}
}

// MaskBelow keeps the elements of x where reference is below bound and replaces
// the others by 0, which also stops their gradient. None flows to reference.
func (s *Scope) MaskBelow(x, reference Tensor, bound float64) Tensor {
	return Tensor{s.lib.MaskBelow(s.ptr, x.id, reference.id, bound)}
}

// Rows returns count rows of x from begin on.
func (s *Scope) Rows(x Tensor, begin, count int) Tensor {
	return Tensor{s.lib.Rows(s.ptr, x.id, int64(begin), int64(count))}
}

// Mean averages all elements.
func (s *Scope) Mean(x Tensor) Tensor { return Tensor{s.lib.Mean(s.ptr, x.id)} }

// Scale multiplies by a constant.
func (s *Scope) Scale(x Tensor, factor float64) Tensor {
	return Tensor{s.lib.Scale(s.ptr, x.id, factor)}
}

// Argmax returns the index of the largest element of each row.
func (s *Scope) Argmax(x Tensor) Tensor { return Tensor{s.lib.Argmax(s.ptr, x.id)} }

// Backward adds the gradient of a scalar loss to every parameter it depends on.
func (s *Scope) Backward(loss Tensor) { s.lib.Backward(s.ptr, loss.id) }

// Grad returns the gradient collected by a parameter; none is an error.
func (s *Scope) Grad(t Tensor) Tensor { return Tensor{s.lib.Grad(s.ptr, t.id)} }

// SGD is one setting of stochastic gradient descent.
type SGD struct {
	Rate, Momentum, WeightDecay float64
	Nesterov                    bool
}

// Descend does one step of SGD against the gradient of a scalar loss: Backward,
// and every one of params is moved, with its velocity, as soon as its gradient is
// known; the gradient is dropped. params and velocity correspond; velocity starts at zero.
// Parameters that the loss does not depend on stay as they are. After an error
// some may have moved.
func (s *Scope) Descend(loss Tensor, params, velocity []Tensor, o SGD) {
	if len(params) != len(velocity) {
		panic("torch: params and velocity differ in length")
	}
	p, v := ids(params), ids(velocity)
	s.lib.Descend(s.ptr, loss.id, unsafe.SliceData(p), unsafe.SliceData(v), int32(len(p)), o.Rate, o.Momentum, o.WeightDecay, flag(o.Nesterov))
}

func ids(ts []Tensor) []int64 {
	out := make([]int64, len(ts))
	for i, t := range ts {
		out[i] = t.id
	}
	return out
}
