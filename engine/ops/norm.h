// Batch norm, the addition of a residual, ReLU and a max pool, without autograd.
#pragma once
#include <ATen/ATen.h>

#include "ops.h"

namespace cordon {

// What the kernels are written for: values of a type and N × C × H × W, channels-last.
// Everything else is ATen's.
bool norm_in_our_layout(at::ScalarType type, at::IntArrayRef sizes, const Norm& n, const at::Tensor& residual);

// Where ReLU's sign is read from: nowhere (no ReLU), its output y, x, or what the pool after it took.
enum class Gate { kNone, kOutput, kInput, kPool };
inline Gate gate_of(bool residual, bool relu) {
  return !relu ? Gate::kNone : residual ? Gate::kOutput : Gate::kInput;
}

struct NormGradients {
  at::Tensor x, weight, bias, residual;
};

// A batch norm of x in our layout by the moments it has taken, and its gradients.
struct Normalization {
  at::Tensor x, weight, bias;
  at::Tensor moments;  // float, 3 × C: the mean, 1 / the standard deviation, weight / the standard deviation
  Gate gate;
  bool constant;  // moments do not depend on x

  // Takes the moments of x, or the running ones, and updates those.
  Normalization(const at::Tensor& x, const Norm& n, Gate gate);
  Normalization(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& moments, Gate gate,
                bool constant)
      : x(x), weight(weight), bias(bias), moments(moments), gate(gate), constant(constant) {}

  at::Tensor forward(const at::Tensor& residual) const;  // may be undefined

  // What max_pool makes of ReLU's result with Gate::kPool, and which tap each value comes from.
  at::Tensor pooled(at::Tensor& taken) const;

  // From the gradient of the result, and what the gate reads, y or `taken`. The gradient of x
  // is left out where it is not wanted, and takes x's memory if `over_x`; that of the residual takes
  // dy's if `over_dy`.
  NormGradients gradients(const at::Tensor& dy, const at::Tensor& read, bool wants_x, bool wants_residual, bool over_x,
                          bool over_dy) const;
};

}  // namespace cordon
