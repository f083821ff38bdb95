// 3×3 convolutions by Winograd's methods: 16 multiplications for every four output pixels
// instead of 36, 9 where the four are the whole image, 49 for sixteen; 25 for four with a stride of 2.
#pragma once
#include <ATen/ATen.h>

#include "product.h"
#include "shape.h"

namespace cordon {

// Whether there is one for a convolution (float, on the CPU), and it beats the direct sum.
bool winograd_pays(const Shape& s);

// That convolution and its gradients; all channels-last. The input's gradient is added to sum, if
// any. Only with have_products.
at::Tensor winograd(const Shape& s, const at::Tensor& x, const at::Tensor& w);
at::Tensor winograd_input_gradient(const Shape& s, const at::Tensor& dy, const at::Tensor& w, const at::Tensor& sum);
at::Tensor winograd_kernel_gradient(const Shape& s, const at::Tensor& x, const at::Tensor& dy);

// The same in two steps: the kernels transformed for a shape, or another of as many
// products, and the convolution by them, then the epilogue over rows of pixels.
int winograd_products(const Shape& s);
Packed winograd_kernels(const Shape& s, const at::Tensor& w);
at::Tensor winograd(const Shape& s, const at::Tensor& x, Packed& kernels, const Epilogue& e);

}  // namespace cordon
