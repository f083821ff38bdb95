// Convolutions in bf16 on AMX: registers of 16 × 16 sums (tiles) that take a
// product of 16 × 32 by 32 × 16 bfloat16 at a time.
#pragma once
#include <ATen/ATen.h>

#include "shape.h"

namespace cordon {

// Whether there is AMX, and the shape is one it is written for. `x_grad`: whether
// the gradient of x is wanted.
bool amx_pays(const Shape& s, bool x_grad);

// The convolution of x (bfloat16) by w (float) and its gradients; all channels-last.
at::Tensor amx_forward(const Shape& s, const at::Tensor& x, const at::Tensor& w);
at::Tensor amx_input_gradient(const Shape& s, const at::Tensor& dy, const at::Tensor& w);
at::Tensor amx_kernel_gradient(const Shape& s, const at::Tensor& x, const at::Tensor& dy);  // float

}  // namespace cordon
