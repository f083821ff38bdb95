// 3×3 convolutions by Winograd's methods: 16 multiplications for every four output pixels
// instead of 36, 9 where the four are the whole image, 49 for sixteen.
#pragma once
#include <ATen/ATen.h>

#include "product.h"
#include "shape.h"

namespace cordon {

// Whether it beats a direct convolution (3×3, stride 1, padding 1, float, on the
// CPU) of n × ci × h × w to co channels. Asks the shape alone.
bool winograd_pays(int64_t n, int64_t ci, int64_t h, int64_t w, int64_t co);

// That convolution and its gradients; all channels-last. Only with have_products.
at::Tensor winograd(const at::Tensor& x, const at::Tensor& w);
at::Tensor winograd_input_gradient(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& sum);
at::Tensor winograd_kernel_gradient(const at::Tensor& x, const at::Tensor& dy);

// The same in two steps: the kernels transformed for a shape, or another of as many
// products, and the convolution by them, then the epilogue over rows of pixels.
int winograd_products(const Shape& s);
Packed winograd_kernels(const Shape& s, const at::Tensor& w);
at::Tensor winograd(const at::Tensor& x, Packed& kernels, const Epilogue& e);

}  // namespace cordon
