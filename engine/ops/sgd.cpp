#include <ATen/Parallel.h>

#include "isa.h"
#include "ops.h"

namespace cordon {
namespace {

// One pass over memory: read gradient, parameter and velocity, write the last two.
CORDON_VECTORS void fused(float* __restrict__ p, float* __restrict__ v, const float* __restrict__ g, int64_t n, float rate,
                          float momentum, float decay, bool nesterov) {
  for (int64_t i = 0; i < n; i++) {
    float d = g[i] + decay * p[i];
    float u = momentum * v[i] + d;
    v[i] = u;
    p[i] -= rate * (nesterov ? d + momentum * u : u);
  }
}

// Whether both hold their elements in one order. The stride of a dimension of size 1
// says nothing: a 1×1 kernel's parameter and gradient may differ in it.
bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  for (int64_t k = 0; k < a.dim(); k++)
    if (a.size(k) > 1 && a.stride(k) != b.stride(k)) return false;
  return a.is_non_overlapping_and_dense();
}

}  // namespace

void sgd_step(std::vector<at::Tensor>& params, std::vector<at::Tensor>& velocity, double rate, double momentum,
              double weight_decay, bool nesterov) {
  for (size_t i = 0; i < params.size(); i++) {
    auto& p = params[i];
    auto& v = velocity[i];
    auto& grad = p.mutable_grad();
    if (!grad.defined()) continue;
    auto g = grad;
    grad.reset();
    p.unsafeGetTensorImpl()->bump_version();  // which the pass below does not
    if (momentum != 0 && p.is_cpu() && p.scalar_type() == at::kFloat && same_layout(p, v)) {
      if (!same_layout(p, g)) g = at::empty_like(p).copy_(g);
      float *to = p.data_ptr<float>(), *speed = v.data_ptr<float>(), *slope = g.data_ptr<float>();
      at::parallel_for(0, p.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
        fused(to + begin, speed + begin, slope + begin, end - begin, (float)rate, (float)momentum, (float)weight_decay, nesterov);
      });
      continue;
    }
    if (weight_decay != 0) g = g.add(p, weight_decay);
    if (momentum != 0) {
      v.mul_(momentum).add_(g);
      g = nesterov ? g.add(v, momentum) : v;
    }
    p.add_(g, -rate);
  }
}

}  // namespace cordon
