// The ways in which a convolution of few pixels is a matrix product.
#pragma once
#include <ATen/ATen.h>

#include "shape.h"

namespace cordon {

// Which way a shape goes depends on the shape, the type, the wanted gradients and
// the processor's vectors, never on a measurement, so that two runs compute the same bits.
enum class Way {
  kAten,       // none: oneDNN's convolution
  kPointwise,  // 1×1
  kWinograd,   // 3×3 in fewer multiplications
  kDense,      // a kernel as large as the image
  kColumns,    // strided 3×3
};
Way way_of(const Shape& s, at::ScalarType type);

// Whether all of a strided 3×3 is products of columns. On more pixels the forward pass is ATen's.
bool columns_pay(const Shape& s, at::ScalarType type);

// What the ways are written for. Everything else is ATen's.
bool in_our_layout(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding);

// The pixels of an image as rows of channels, and back.
at::Tensor as_rows(const at::Tensor& image);
at::Tensor as_image(const at::Tensor& rows, int64_t n, int64_t h, int64_t w, int64_t c);

// The pixels that a 1×1 kernel meets.
at::Tensor strided_pixels(const at::Tensor& x, int64_t stride);

// A kernel for whole images: (out pixel, co) × (in pixel, ci), zero where no tap joins the two.
at::Tensor widened(const Shape& s, const at::Tensor& weight, at::ScalarType type);

}  // namespace cordon
