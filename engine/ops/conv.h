// The ways in which a convolution of few pixels is a matrix product.
#pragma once
#include <ATen/ATen.h>

#include "shape.h"

namespace cordon {

// Which way a shape goes depends on the shape, the type, the wanted gradients and
// the processor's vectors, never on a measurement, so that two runs compute the same bits.
enum class Way {
  kAten,       // none: oneDNN's convolution
  kPointwise,  // 1×1: a product over the pixels
  kWinograd,   // 3×3 in fewer multiplications
  kDense,      // a kernel as large as the image: a product over (pixel, channel)
  kColumns,    // strided 3×3: a product over (tap, channel)
  kTiles,      // AMX
};
Way way_of(const Shape& s, at::ScalarType type, bool x_grad);

// What the ways are written for. Everything else is ATen's.
bool in_our_layout(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding);

// A convolution in our layout, and its gradients, without autograd.
struct Convolution {
  Shape shape;
  Way way;
  at::Tensor x, kernel;  // the kernel as the way wants it

  Convolution(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding);
  Convolution(const Shape& s, Way way, const at::Tensor& x, const at::Tensor& kernel) : shape(s), way(way), x(x), kernel(kernel) {}

  at::Tensor forward() const;  // channels-last, as dy is to be
  at::Tensor input_gradient(const at::Tensor& dy, const at::Tensor& sum = {}) const;  // added to sum, if any, which it uses up
  at::Tensor kernel_gradient(const at::Tensor& dy) const;  // float
};

// Whether all of a strided 3×3 is products of columns. On more pixels the forward pass is ATen's.
bool columns_pay(const Shape& s, at::ScalarType type);

// An image that is to be written, channels-last: a convolution's result.
at::Tensor new_image(int64_t n, int64_t c, int64_t h, int64_t w, at::ScalarType type);

// What a kernel meets, a row for every output pixel: x as it is, or its columns.
at::Tensor met(const Shape& s, const at::Tensor& x);

// A kernel for whole images: (out pixel, co) × (in pixel, ci), zero where no tap joins the two.
at::Tensor widened(const Shape& s, const at::Tensor& weight, at::ScalarType type);

}  // namespace cordon
