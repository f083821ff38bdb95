// cordon's own operators beside ATen's. Each is one function with autograd that
// takes and returns at::Tensor, and falls back to ATen where it has nothing
// better for a device, a type or a shape.
#pragma once
#include <ATen/ATen.h>

#include <vector>

namespace cordon {

// 2-d convolution without bias; x and w of one type, channels-last.
at::Tensor conv2d(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding);

// One step of SGD over all parameters (PyTorch's definition, dampening 0).
// Drops the gradients. Call it without grad mode.
void sgd_step(std::vector<at::Tensor>& params, std::vector<at::Tensor>& velocity, double rate, double momentum,
              double weight_decay, bool nesterov);

}  // namespace cordon
