// What each output pixel of a convolution sees, as rows of a matrix.
#pragma once
#include <ATen/ATen.h>

#include "shape.h"

namespace cordon {

// (sample, output pixel) × (tap, channel) of an image, float or bfloat16, with
// zeros for padding and up to `width` columns: scratch.
at::Tensor columns_of(const Shape& s, const at::Tensor& image, int64_t width);

}  // namespace cordon
