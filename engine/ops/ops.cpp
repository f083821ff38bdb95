// The operators as autograd knows them: one node of its graph each.
#include "ops.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "conv.h"
#include "folded.h"
#include "norm.h"
#include "product.h"

namespace cordon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

// What a Function keeps besides tensors.
template <class T>
struct Kept : torch::CustomClassHolder {
  T value;
  explicit Kept(const T& v) : value(v) {}
};

template <class T>
void keep(AutogradContext* ctx, const T& value) {
  ctx->saved_data["kept"] = at::IValue::make_capsule(c10::make_intrusive<Kept<T>>(value));
}

template <class T>
const T& kept(AutogradContext* ctx) {
  return static_cast<const Kept<T>&>(*ctx->saved_data["kept"].toCapsule()).value;
}

struct ConvKept {
  Shape shape;
  Way way;
};

struct NormKept {
  Gate gate;
  bool constant;
};

struct BothKept {
  ConvKept conv;
  NormKept norm;
  size_t holders;  // of a gradient that nobody else looks at
};

// A Function takes no undefined tensors: an empty one stands for none.
at::Tensor or_empty(const at::Tensor& t) { return t.defined() ? t : at::empty({0}); }
at::Tensor or_undefined(const at::Tensor& t) { return t.numel() > 0 ? t : at::Tensor(); }

at::Tensor if_output(Gate gate, const at::Tensor& y) { return gate == Gate::kOutput ? y : at::Tensor(); }

// A gradient may be written over in a backward pass if nobody else holds it. How often autograd
// itself does differs by release: what the second of two nodes sees of what the first one made.
struct Probe : torch::autograd::Function<Probe> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const std::shared_ptr<size_t>& holders) {
    keep(ctx, holders);
    return x.clone();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    *kept<std::shared_ptr<size_t>>(ctx) = grads[0].use_count();
    return {at::zeros({1}), at::Tensor()};
  }
};

size_t holders_of_a_gradient() {
  static const size_t holders = [] {
    auto seen = std::make_shared<size_t>();
    Probe::apply(Probe::apply(at::zeros({1}).requires_grad_(true), seen), seen).backward();
    return *seen;
  }();
  return holders;
}

struct Conv : torch::autograd::Function<Conv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
    at::AutoDispatchBelowADInplaceOrView below;  // no views to keep account of
    Convolution c(x, w, stride, padding);
    ctx->save_for_backward({x, c.kernel});
    keep(ctx, ConvKept{c.shape, c.way});
    return c.forward();
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto v = ctx->get_saved_variables();
    auto k = kept<ConvKept>(ctx);
    Convolution c(k.shape, k.way, v[0], v[1]);
    auto dy = grads[0].contiguous(kLast);
    variable_list out(4);
    if (ctx->needs_input_grad(0)) out[0] = c.input_gradient(dy);
    if (ctx->needs_input_grad(1)) out[1] = c.kernel_gradient(dy);
    return out;
  }
};

struct BatchNorm : torch::autograd::Function<BatchNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& residual, const Norm& n, bool relu) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto added = or_undefined(residual);
    Normalization norm(x, n, gate_of(added.defined(), relu));
    auto y = norm.forward(added);
    ctx->save_for_backward({x, if_output(norm.gate, y), weight, bias, norm.moments});
    keep(ctx, NormKept{norm.gate, norm.constant});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto v = ctx->get_saved_variables();
    auto k = kept<NormKept>(ctx);
    Normalization norm(v[0], v[2], v[3], v[4], k.gate, k.constant);
    auto g = norm.gradients(grads[0].contiguous(kLast), v[1], ctx->needs_input_grad(0), ctx->needs_input_grad(3), false, false);
    return {g.x, g.weight, g.bias, g.residual, at::Tensor(), at::Tensor()};
  }
};

// Both as one: half the nodes, and the gradient between the two takes the memory of
// the value between them, which nobody else has. With Gate::kPool a max pool follows, with `fork` the
// second output is x.
struct ConvNorm : torch::autograd::Function<ConvNorm> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& w, const at::Tensor& weight,
                               const at::Tensor& bias, const at::Tensor& residual, int64_t stride, int64_t padding,
                               const Norm& n, Gate gate, bool fork, size_t holders) {
    at::AutoDispatchBelowADInplaceOrView below;
    Convolution c(x, w, stride, padding);
    Normalization norm(c.forward(), n, gate);
    at::Tensor taken;
    auto y = gate == Gate::kPool ? norm.pooled(taken) : norm.forward(or_undefined(residual));
    ctx->save_for_backward({x, c.kernel, norm.x, gate == Gate::kPool ? taken : if_output(gate, y), weight, bias, norm.moments});
    keep(ctx, BothKept{{c.shape, c.way}, {gate, norm.constant}, holders});
    return fork ? variable_list{y, at::alias(x)} : variable_list{y};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto v = ctx->get_saved_variables();
    auto k = kept<BothKept>(ctx);
    auto alone = [&](const at::Tensor& grad) { return grad.use_count() <= k.holders && grad.storage().use_count() == 1; };
    bool wants_x = ctx->needs_input_grad(0), wants_w = ctx->needs_input_grad(1);
    Normalization norm(v[2], v[4], v[5], v[6], k.norm.gate, k.norm.constant);
    bool over_dy = alone(grads[0]) && grads[0].is_contiguous(kLast);
    auto g = norm.gradients(grads[0].contiguous(kLast), v[3], wants_x || wants_w, ctx->needs_input_grad(4), true, over_dy);
    Convolution c(k.conv.shape, k.conv.way, v[0], v[1]);
    variable_list out(11);
    if (wants_x && grads.size() == 1) out[0] = c.input_gradient(g.x);
    if (wants_x && grads.size() > 1) out[0] = c.input_gradient(g.x, (alone(grads[1]) ? grads[1] : grads[1].clone()).contiguous(kLast));
    if (wants_w) out[1] = c.kernel_gradient(g.x);
    out[2] = g.weight;
    out[3] = g.bias;
    out[4] = g.residual;
    return out;
  }
};

// What Conv is for: where the processor has no bf16 vectors ATen's bf16 is slow,
// and on 1×1 images wrong (NaN).
bool ours(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  return in_our_layout(x, w, stride, padding) && (x.scalar_type() == at::kFloat || fast_bf16_products());
}

// The same for ConvNorm, whose norm has to be ours too.
bool ours(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& n, const at::Tensor& residual) {
  if (!ours(x, w, stride, padding)) return false;
  Shape s(x, w, stride, padding);
  return norm_in_our_layout(x.scalar_type(), {s.n, s.co, s.oh, s.ow}, n, residual);
}

void check(const Norm& n, int64_t values, int64_t channels) {
  TORCH_CHECK(n.mode == NormRunning || values > channels, "batch statistics need more than one value per channel");
}

// The running statistics are written to past ATen.
void bump_statistics(const Norm& n) {
  if (n.mode != NormTrain) return;
  for (auto* t : {&n.running_mean, &n.running_var}) t->unsafeGetTensorImpl()->bump_version();
}

// ConvNorm of what is ours.
variable_list joined(const Shape& s, const at::Tensor& x, const at::Tensor& w, const Norm& n, const at::Tensor& residual,
                     Gate gate, bool fork) {
  check(n, s.n * s.out_pixels() * s.co, s.co);
  bump_statistics(n);
  return ConvNorm::apply(x, w, n.weight, n.bias, or_empty(residual), s.stride, s.padding, n, gate, fork,
                         c10::GradMode::is_enabled() ? holders_of_a_gradient() : 0);
}

}  // namespace

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  auto type = x.scalar_type();
  if (ours(x, w, stride, padding)) return Conv::apply(x, w, stride, padding);
  if (in_our_layout(x, w, stride, padding)) return conv2d(x.to(at::kFloat), w, stride, padding).to(type);
  return at::conv2d(x, w.to(type), {}, {stride, stride}, {padding, padding});
}

at::Tensor batch_norm(const at::Tensor& x, const Norm& n, const at::Tensor& residual, bool relu) {
  TORCH_CHECK(x.dim() == 4, "expected 4 dimensions, got ", x.dim());
  check(n, x.numel(), x.size(1));
  if (x.is_cpu() && x.is_contiguous(kLast) && norm_in_our_layout(x.scalar_type(), x.sizes(), n, residual)) {
    bump_statistics(n);
    return BatchNorm::apply(x, n.weight, n.bias, or_empty(residual), n, relu);
  }
  bool alone = n.mode == NormBatch;
  auto y = at::batch_norm(x, n.weight, n.bias, alone ? at::Tensor() : n.running_mean, alone ? at::Tensor() : n.running_var,
                          n.mode != NormRunning, n.momentum, n.eps, /*cudnn_enabled=*/true);
  if (residual.defined()) y = y.add_(residual);
  return relu ? y.relu_() : y;
}

at::Tensor conv_norm(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& n,
                     const at::Tensor& residual, bool relu, at::Tensor* around) {
  if (around) *around = x;
  bool training = c10::GradMode::is_enabled();
  if (training) drop_kept_kernels();  // for the memory
  if (!ours(x, w, stride, padding, n, residual)) return batch_norm(conv2d(x, w, stride, padding), n, residual, relu);
  Shape s(x, w, stride, padding);
  if (!training && n.mode == NormRunning && x.scalar_type() == at::kFloat)
    return folded_conv_norm(s, x, w, n, residual, relu);
  bool fork = around && training && x.requires_grad();
  auto y = joined(s, x, w, n, residual, gate_of(residual.defined(), relu), fork);
  if (fork) *around = y[1];
  return y[0];
}

at::Tensor conv_norm_pool(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& n) {
  bool training = c10::GradMode::is_enabled();
  if (!training || !ours(x, w, stride, padding, n, {}))
    return at::max_pool2d(conv_norm(x, w, stride, padding, n, {}, true), 3, 2, 1);
  drop_kept_kernels();
  return joined(Shape(x, w, stride, padding), x, w, n, {}, Gate::kPool, false)[0];
}

}  // namespace cordon
