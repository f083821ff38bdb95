#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <utility>

#include "isa.h"
#include "ops.h"
#include "share.h"

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

// Moves a parameter by its gradient, which is dropped.
void move_parameter(at::Tensor& p, at::Tensor& v, const Sgd& o) {
  if (!p.grad().defined()) return;
  auto g = p.grad();
  p.mutable_grad().reset();
  p.unsafeGetTensorImpl()->bump_version();  // which the pass below does not
  if (o.momentum != 0 && p.is_cpu() && p.scalar_type() == at::kFloat && same_layout(p, v) && same_layout(p, g)) {
    float *to = p.data_ptr<float>(), *speed = v.data_ptr<float>(), *slope = g.data_ptr<float>();
    share_out(p.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      fused(to + begin, speed + begin, slope + begin, end - begin, (float)o.rate, (float)o.momentum, (float)o.weight_decay, o.nesterov);
    });
    return;
  }
  if (o.weight_decay != 0) g = g.add(p, o.weight_decay);
  if (o.momentum != 0) {
    v.mul_(o.momentum).add_(g);
    g = o.nesterov ? g.add(v, o.momentum) : v;
  }
  p.add_(g, -o.rate);
}

// Moves its parameter when autograd has added up the gradient.
class Mover : public torch::autograd::FunctionPostHook {
 public:
  Mover(at::Tensor& p, at::Tensor& v, const Sgd& o) : p_(p), v_(v), o_(o) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    move_parameter(p_, v_, o_);
    return outputs;
  }

 private:
  at::Tensor &p_, &v_;
  const Sgd& o_;
};

// A Mover where a parameter's gradient is added up, for as long as this lives.
class Attached {
 public:
  Attached(at::Tensor& p, at::Tensor& v, const Sgd& o)
      : node_(torch::autograd::impl::grad_accumulator(p)), key_(node_->add_post_hook(std::make_unique<Mover>(p, v, o))) {}
  Attached(Attached&& other) : node_(std::move(other.node_)), key_(other.key_) {}
  ~Attached() {
    if (node_) node_->del_post_hook(key_);
  }

 private:
  decltype(torch::autograd::impl::grad_accumulator({})) node_;
  uintptr_t key_;
};

}  // namespace

void descend(const at::Tensor& loss, std::vector<at::Tensor>& params, std::vector<at::Tensor>& velocity, const Sgd& o) {
  std::vector<Attached> attached;
  attached.reserve(params.size());
  for (size_t i = 0; i < params.size(); i++) attached.emplace_back(params[i], velocity[i], o);
  loss.backward();
}

}  // namespace cordon
