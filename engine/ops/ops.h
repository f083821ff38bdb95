// cordon's own operators beside ATen's. Each is one function with autograd that
// takes and returns at::Tensor, and falls back to ATen where it has nothing
// better for a device, a type or a shape.
#pragma once
#include <ATen/ATen.h>

#include <vector>

namespace cordon {

// 2-d convolution without bias; both channels-last. w is float whatever x's type,
// which is computed in and which the result has.
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding);

// Where batch norm's statistics come from: CORDON_NORM_* of cordon_engine.h.
enum NormMode { NormTrain = 0, NormBatch = 1, NormRunning = 2 };

// A batch norm: one float a channel each. NormTrain updates the running statistics,
// NormBatch does not look at them. Batch statistics need more than one value per channel.
struct Norm {
  at::Tensor weight, bias, running_mean, running_var;
  NormMode mode;
  double momentum, eps;
};

// Batch norm of x (N × C × H × W), then + residual (if defined), then ReLU (if asked).
at::Tensor batch_norm(const at::Tensor& x, const Norm& norm, const at::Tensor& residual, bool relu);

// batch_norm of conv2d. `around`, if given, becomes x for a path around the layer: the gradient
// that comes back along it is added to in the layer's own product. Without grad mode and by the
// running statistics the norm goes into the kernels, which are kept as the products want them
// until something trains, changes or frees them; the residual's memory may then become the result's.
at::Tensor conv_norm(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& norm,
                     const at::Tensor& residual, bool relu, at::Tensor* around = nullptr);

// conv_norm with ReLU, then the maximum of 3×3 values in steps of 2, padding 1: a stem. Training makes no
// image of ReLU's.
at::Tensor conv_norm_pool(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& norm);

// Frees the kernels that conv_norm keeps.
void drop_kept_kernels();

// SGD by PyTorch's definition, dampening 0.
struct Sgd {
  double rate, momentum, weight_decay;
  bool nesterov;
};

// One step against the gradient of a loss. Each parameter is moved as soon as its gradient is
// known, while that is in the cache, and the gradient dropped.
void descend(const at::Tensor& loss, std::vector<at::Tensor>& params, std::vector<at::Tensor>& velocity, const Sgd& sgd);

}  // namespace cordon
