// Convolution and batch norm in evaluation.
#pragma once
#include <ATen/ATen.h>

#include "ops.h"
#include "shape.h"

namespace cordon {

// conv_norm by the running statistics, float and without grad mode, in our layout. It keeps
// the kernels with the norm in them, and the residual's memory becomes the result's.
at::Tensor folded_conv_norm(const Shape& s, const at::Tensor& x, const at::Tensor& w, const Norm& norm,
                            const at::Tensor& residual, bool relu);

}  // namespace cordon
