// Compares cordon's operators with ATen's in float64: every output and every
// gradient may be off by at most 1.5 times what ATen's own operator of the same
// type is off by, and a few roundings, which are as much again. And the
// heap that large tensors live in.
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <torch/csrc/autograd/variable.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "heap.h"
#include "isa.h"
#include "ops.h"

namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;
int failures = 0, checks = 0;

at::Tensor leaf(const at::Tensor& t, at::ScalarType type, bool grad) {
  auto out = t.to(type, false, /*copy=*/true);
  if (out.dim() == 4) out = out.contiguous(kLast);
  return out.requires_grad_(grad);
}

double off_by(const at::Tensor& got, const at::Tensor& want) {
  if (want.numel() == 0 || want.norm().item<double>() == 0) return got.to(at::kDouble).norm().item<double>();
  return ((got.to(at::kDouble) - want).norm() / want.norm()).item<double>();
}

void fail(const std::string& what) {
  failures++;
  std::printf("FAIL %s\n", what.c_str());
}

void compare(const std::string& name, const at::Tensor& own, const at::Tensor& aten, const at::Tensor& exact) {
  checks++;
  if (own.defined() != exact.defined()) return fail(name + ": defined " + std::to_string(own.defined()));
  if (!own.defined()) return;
  if (own.sizes() != exact.sizes()) return fail(name + ": shape");
  if (own.scalar_type() != aten.scalar_type()) return fail(name + ": type");
  double a = off_by(own, exact), b = off_by(aten, exact), roundings = own.scalar_type() == at::kFloat ? 5e-7 : 2.5e-3;
  if (!std::isfinite(b)) b = 0;  // ATen 1.13's bf16 weight gradient of 1×1 images can hold NaN
  if (!(a <= 1.5 * b + roundings)) fail(name + ": off by " + std::to_string(a * 1e6) + "e-6, ATen by " + std::to_string(b * 1e6) + "e-6");
}

std::string type_name(at::ScalarType t) { return t == at::kFloat ? " fp32" : " bf16"; }

// Outputs, then gradients; undefined where there is none.
using Results = std::vector<at::Tensor>;

struct Conv {
  int64_t n, ci, h, w, co, k, stride, padding;
  bool x_grad = true, w_grad = true;
};

Results run_conv(const Conv& c, at::ScalarType type, const at::Tensor& x0, const at::Tensor& w0, const at::Tensor& dy,
                 bool own) {
  auto x = leaf(x0, type, c.x_grad), w = leaf(w0, type == at::kDouble ? type : at::kFloat, c.w_grad);
  auto y = own ? cordon::conv2d(x, w, c.stride, c.padding)
               : at::conv2d(x, w.to(type), {}, {c.stride, c.stride}, {c.padding, c.padding});
  if (y.requires_grad()) y.backward(dy.to(type));
  return {y.detach(), x.grad(), w.grad()};
}

// ATen's results. It does not know that CORDON_FORCE_ISA keeps oneDNN from bfloat16
// and fails; the exact ones, rounded, stand in for its own.
Results reference(const Conv& c, at::ScalarType type, const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy,
                  Results exact) {
  if (type == at::kFloat || cordon::isa() >= cordon::Isa::kAvx512) return run_conv(c, type, x, w, dy, false);
  for (auto& t : exact)
    if (t.defined()) t = t.to(at::kBFloat16);
  if (exact[2].defined()) exact[2] = exact[2].to(at::kFloat);
  return exact;
}

void test_conv(const Conv& c, at::ScalarType type) {
  auto name = "conv " + std::to_string(c.n) + "x" + std::to_string(c.ci) + "x" + std::to_string(c.h) + "x" +
              std::to_string(c.w) + " to " + std::to_string(c.co) + " k" + std::to_string(c.k) + " s" +
              std::to_string(c.stride) + " p" + std::to_string(c.padding) + type_name(type);
  // Rounded to the type first: all three see the same numbers.
  auto x = at::randn({c.n, c.ci, c.h, c.w}).to(type), w = at::randn({c.co, c.ci, c.k, c.k}).to(type);
  auto dy = at::randn_like(at::conv2d(x.to(at::kFloat), w.to(at::kFloat), {}, {c.stride, c.stride}, {c.padding, c.padding})).to(type);
  auto own = run_conv(c, type, x, w, dy, true), exact = run_conv(c, at::kDouble, x, w, dy, false);
  auto aten = reference(c, type, x, w, dy, exact);
  const char* parts[] = {" y", " dx", " dw"};
  for (int i = 0; i < 3; i++) compare(name + parts[i], own[i], aten[i], exact[i]);
  auto again = run_conv(c, type, x, w, dy, true);
  for (int i = 0; i < 3; i++)
    if (own[i].defined() && !own[i].equal(again[i])) fail(name + parts[i] + ": differs from run to run");
}

struct Norm {
  int64_t n, c, h, w;
  cordon::NormMode mode;
  bool residual, relu;
  bool x_grad = true, w_grad = true, residual_grad = true;
  double offset = 0.5;
};

Results run_norm(const Norm& t, at::ScalarType type, const Results& in, bool own) {
  auto stat = type == at::kDouble ? at::kDouble : at::kFloat;
  auto x = leaf(in[0], type, t.x_grad), weight = leaf(in[1], stat, t.w_grad), bias = leaf(in[2], stat, t.w_grad);
  auto mean = leaf(in[3], stat, false), var = leaf(in[4], stat, false);
  auto residual = t.residual ? leaf(in[5], type, t.residual_grad) : at::Tensor();
  at::Tensor y;
  if (own) {
    y = cordon::batch_norm(x, {weight, bias, mean, var, t.mode, 0.1, 1e-5}, residual, t.relu);
  } else {
    bool alone = t.mode == cordon::NormBatch;
    y = at::batch_norm(x, weight, bias, alone ? at::Tensor() : mean, alone ? at::Tensor() : var,
                       t.mode != cordon::NormRunning, 0.1, 1e-5, false);
    if (t.residual) y = y + residual;
    if (t.relu) y = y.relu();
  }
  if (y.requires_grad()) y.backward(in[6].to(type));
  return {y.detach(), mean, var, x.grad(), weight.grad(), bias.grad(), t.residual ? residual.grad() : at::Tensor()};
}

void test_norm(const Norm& t, at::ScalarType type) {
  auto name = "norm " + std::to_string(t.n) + "x" + std::to_string(t.c) + "x" + std::to_string(t.h) + "x" +
              std::to_string(t.w) + " mode " + std::to_string(t.mode) + (t.residual ? " residual" : "") +
              (t.relu ? " relu" : "") + type_name(type);
  auto x = (at::randn({t.n, t.c, t.h, t.w}) * 2 + t.offset).to(type);
  Results in = {x, at::rand({t.c}) + 0.5, at::randn({t.c}), at::randn({t.c}), at::rand({t.c}) + 0.5,
                at::randn(x.sizes()).to(type), at::randn(x.sizes()).to(type)};
  auto own = run_norm(t, type, in, true), aten = run_norm(t, type, in, false), exact = run_norm(t, at::kDouble, in, false);
  const char* parts[] = {" y", " running mean", " running var", " dx", " dweight", " dbias", " dresidual"};
  for (int i = 0; i < 7; i++) compare(name + parts[i], own[i], aten[i], exact[i]);
  if (t.c % 16 != 0) return;  // ATen's, whose sums depend on the number of threads
  int threads = at::get_num_threads();
  at::set_num_threads(3 - threads);
  auto again = run_norm(t, type, in, true);
  at::set_num_threads(threads);
  for (int i = 0; i < 7; i++)
    if (own[i].defined() && !own[i].equal(again[i])) fail(name + parts[i] + ": depends on the number of threads");
}

// A convolution and its norm in evaluation, in each type and in float64.
struct Evaluated {
  at::Tensor x, w, residual;
  cordon::Norm norm;

  Evaluated(const Conv& c, bool with_residual) {
    x = at::randn({c.n, c.ci, c.h, c.w}).contiguous(kLast);
    w = (at::randn({c.co, c.ci, c.k, c.k}) / c.k).contiguous(kLast);
    norm = {at::rand({c.co}) + 0.5, at::randn({c.co}), at::randn({c.co}), at::rand({c.co}) + 0.5, cordon::NormRunning, 0.1, 1e-5};
    if (with_residual) residual = at::randn_like(at::conv2d(x, w, {}, {c.stride, c.stride}, {c.padding, c.padding})).contiguous(kLast);
  }
  at::Tensor own(const Conv& c, bool relu) const {
    auto used_up = residual.defined() ? residual.clone() : residual;
    return cordon::conv_norm(x, w, c.stride, c.padding, norm, used_up, relu);
  }
  at::Tensor aten(const Conv& c, bool relu, at::ScalarType t) const {
    auto y = at::conv2d(x.to(t), w.to(t), {}, {c.stride, c.stride}, {c.padding, c.padding});
    y = at::batch_norm(y, norm.weight.to(t), norm.bias.to(t), norm.running_mean.to(t), norm.running_var.to(t), false, 0.1, 1e-5, false);
    if (residual.defined()) y = y + residual.to(t);
    return relu ? y.relu() : y;
  }
  void check(const std::string& name, const Conv& c, bool relu) const {
    compare(name, own(c, relu), aten(c, relu, at::kFloat), aten(c, relu, at::kDouble));
  }
};

void test_folded(const Conv& c, bool residual, bool relu) {
  auto name = "folded " + std::to_string(c.n) + "x" + std::to_string(c.ci) + "x" + std::to_string(c.h) + "x" +
              std::to_string(c.w) + " to " + std::to_string(c.co) + " k" + std::to_string(c.k) + " s" +
              std::to_string(c.stride) + (residual ? " residual" : "") + (relu ? " relu" : "");
  Evaluated e(c, residual);
  e.w.requires_grad_(true);
  auto trained = e.own(c, relu);
  if (!trained.requires_grad()) fail(name + ": no gradient in grad mode");
  c10::AutoGradMode off(false);
  e.check(name, c, relu);
  auto first = e.own(c, relu);
  if (!first.equal(e.own(c, relu))) fail(name + ": differs from run to run");
  // A last, smaller batch uses what is kept in another layout, and the first finds it again.
  Evaluated few = e;
  few.x = e.x.narrow(0, 0, 1).contiguous(kLast);
  if (residual) few.residual = e.residual.narrow(0, 0, 1).contiguous(kLast);
  few.check(name + ", one image", c, relu);
  if (!first.equal(e.own(c, relu))) fail(name + ": differs after another batch");
}

// A step against a gradient.
void descend(const at::Tensor& p, const at::Tensor& v, const at::Tensor& gradient, const cordon::Sgd& sgd) {
  c10::AutoGradMode on(true);
  std::vector<at::Tensor> params = {p.requires_grad_(true)}, velocity = {v};
  cordon::descend((p * gradient).sum(), params, velocity, sgd);
  p.requires_grad_(false);
  if (p.grad().defined()) fail("sgd: the gradient was kept");
}

// Nothing kept outlives a change of what it was made of.
void test_folded_again() {
  Conv c{8, 32, 4, 4, 32, 1, 1, 0};
  Evaluated e(c, false);
  c10::AutoGradMode off(false);
  e.check("kept", c, true);
  e.w.copy_(at::randn_like(e.w));
  e.check("after a write", c, true);
  descend(e.w, at::zeros_like(e.w), at::randn_like(e.w), {0.1, 0.9, 0, false});
  e.check("after a step", c, true);
  auto norm = e.norm;
  norm.mode = cordon::NormTrain;
  cordon::batch_norm(at::randn({8, 32, 4, 4}).contiguous(kLast) + 3, norm, {}, false);
  e.check("after new statistics", c, true);
  e.norm.eps = 0.5;
  auto exact = e.aten(c, true, at::kDouble);  // with 1e-5
  if (off_by(e.own(c, true), exact) < 1e-3) fail("folded: another eps was not seen");
}

// Threads that fold, pack and multiply by the same kernels at once compute what one does.
void test_folded_at_once() {
  const Conv convs[] = {{16, 64, 8, 8, 256, 1, 1, 0}, {20, 64, 16, 16, 64, 3, 1, 1}, {33, 64, 2, 2, 64, 3, 1, 1},
                        {40, 64, 1, 1, 80, 1, 1, 0},  {9, 32, 4, 4, 32, 3, 2, 1},    {4, 3, 28, 28, 64, 7, 2, 3}};
  int before = at::get_num_threads();
  at::set_num_threads(1);
  c10::AutoGradMode off(false);
  std::vector<Evaluated> layers;
  Results want;
  for (const auto& c : convs) {
    layers.emplace_back(c, false);
    want.push_back(layers.back().own(c, true));
  }
  std::atomic<int> wrong = 0;
  auto evaluate = [&] {
    at::set_num_threads(1);
    c10::AutoGradMode off(false);
    for (size_t i = 0; i < layers.size(); i++) wrong += !layers[i].own(convs[i], true).equal(want[i]);
  };
  for (int round = 0; round < 20; round++) {
    cordon::drop_kept_kernels();
    std::thread one(evaluate), other(evaluate);
    one.join();
    other.join();
  }
  at::set_num_threads(before);
  checks++;
  if (wrong > 0) fail("folded: " + std::to_string(wrong) + " layers differ between threads");
}

// A layer that the network forks at: the gradient of x comes along both paths. Where they join
// again in a plain sum both get the same gradient, which none may write over.
Results run_fork(const Conv& c, at::ScalarType type, const Results& in, bool join, bool own) {
  auto stat = type == at::kDouble ? at::kDouble : at::kFloat;
  auto x = leaf(in[0], type, true), w = leaf(in[1], stat, true), residual = leaf(in[2], type, true);
  auto one = at::ones({c.co}, stat), zero = at::zeros({c.co}, stat);
  at::Tensor y, around = x;
  if (own) {
    y = cordon::conv_norm(x, w, c.stride, c.padding, {one, zero, zero.clone(), one.clone(), cordon::NormTrain, 0.1, 1e-5}, residual,
                          true, &around);
  } else {
    y = at::conv2d(x, w.to(type), {}, {c.stride, c.stride}, {c.padding, c.padding});
    y = (at::batch_norm(y, one, zero, {}, {}, true, 0.1, 1e-5, false) + residual).relu();
  }
  auto dy = in[3].to(type), da = in[4].to(type);
  (join ? ((y + around) * dy).sum() : (y * dy).sum() + (around * da).sum()).backward();
  return {y.detach(), x.grad(), w.grad(), residual.grad()};
}

void test_fork(const Conv& c, at::ScalarType type, bool join) {
  auto name = "fork " + std::to_string(c.n) + "x" + std::to_string(c.ci) + "x" + std::to_string(c.h) + "x" + std::to_string(c.w) +
              " to " + std::to_string(c.co) + " k" + std::to_string(c.k) + " s" + std::to_string(c.stride) +
              (join ? " joined" : "") + type_name(type);
  auto x = at::randn({c.n, c.ci, c.h, c.w}).to(type).contiguous(kLast), w = (at::randn({c.co, c.ci, c.k, c.k}) / c.k).to(type);
  auto like = at::conv2d(x.to(at::kFloat), w.to(at::kFloat), {}, {c.stride, c.stride}, {c.padding, c.padding});
  auto residual = at::randn_like(like).sign() * 8;  // which side of 0 a sum is on is not a matter of rounding
  Results in = {x, w, residual.to(type), at::randn_like(like).to(type), at::randn_like(x)};
  auto exact = run_fork(c, at::kDouble, in, join, false), own = run_fork(c, type, in, join, true);
  bool atens = type == at::kFloat || cordon::isa() >= cordon::Isa::kAvx512;
  auto aten = atens ? run_fork(c, type, in, join, false) : own;
  const char* parts[] = {" y", " dx", " dw", " dresidual"};
  for (int i = 0; i < 4; i++) compare(name + parts[i], own[i], aten[i], exact[i]);
}

// A stem with its pool in one, or ReLU's image made and pooled: the same values to the bit, and the same gradients
// but for the order of sums.
Results run_pool(const Conv& c, const Results& in, cordon::NormMode mode, bool one) {
  auto x = in[0].detach().requires_grad_(c.x_grad), w = in[1].detach().requires_grad_(c.w_grad);
  auto weight = in[2].detach().requires_grad_(c.w_grad), bias = in[3].detach().requires_grad_(c.w_grad);
  cordon::Norm norm = {weight, bias, at::zeros({c.co}), at::ones({c.co}), mode, 0.1, 1e-5};
  auto y = one ? cordon::conv_norm_pool(x, w, c.stride, c.padding, norm)
               : at::max_pool2d(cordon::conv_norm(x, w, c.stride, c.padding, norm, {}, true), 3, 2, 1);
  if (y.requires_grad()) y.backward(in[4].sizes() == y.sizes() ? in[4] : at::randn_like(y));
  return {y.detach(), norm.running_mean, norm.running_var, x.grad(), w.grad(), weight.grad(), bias.grad()};
}

void test_pool(const Conv& c, at::ScalarType type, cordon::NormMode mode) {
  auto name = "pool " + std::to_string(c.n) + "x" + std::to_string(c.ci) + "x" + std::to_string(c.h) + "x" + std::to_string(c.w) +
              " to " + std::to_string(c.co) + " k" + std::to_string(c.k) + " mode " + std::to_string(mode) + type_name(type);
  int64_t h = ((c.h + 2 * c.padding - c.k) / c.stride + 2) / 2, w = ((c.w + 2 * c.padding - c.k) / c.stride + 2) / 2;
  Results in = {at::randn({c.n, c.ci, c.h, c.w}).to(type).contiguous(kLast), at::randn({c.co, c.ci, c.k, c.k}).contiguous(kLast),
                at::randn({c.co}), at::randn({c.co}), at::randn({c.n, c.co, h, w}).to(type)};
  auto one = run_pool(c, in, mode, true), two = run_pool(c, in, mode, false);
  const char* parts[] = {" y", " running mean", " running var", " dx", " dw", " dweight", " dbias"};
  for (int i = 0; i < 7; i++) {
    checks++;
    if (one[i].defined() != two[i].defined()) fail(name + parts[i] + ": there or not");
    if (!one[i].defined()) continue;
    double d = off_by(one[i], two[i].to(at::kDouble)), most = i < 3 ? 0 : type == at::kFloat ? 1e-5 : 1e-2;
    if (!(d <= most)) fail(name + parts[i] + ": " + std::to_string(d) + " apart");
  }
  if (c.co % 16 != 0) return;
  int threads = at::get_num_threads();
  at::set_num_threads(3 - threads);
  auto again = run_pool(c, in, mode, true);
  at::set_num_threads(threads);
  for (int i : {0, 5, 6})
    if (one[i].defined() && !one[i].equal(again[i])) fail(name + parts[i] + ": depends on the number of threads");
}

// conv_norm's backward writes over what it kept: a second one is refused, not wrong.
void test_backward_twice() {
  auto x = at::randn({8, 32, 4, 4}).contiguous(kLast), w = at::randn({32, 32, 3, 3}).contiguous(kLast).requires_grad_(true);
  auto one = at::ones({32});
  auto y = cordon::conv_norm(x, w, 1, 1, {one, one, one.clone(), one.clone(), cordon::NormTrain, 0.1, 1e-5}, {}, true).sum();
  y.backward({}, true);
  bool threw = false;
  try {
    y.backward();
  } catch (const std::exception&) {
    threw = true;
  }
  checks++;
  if (!threw) fail("a second backward pass over what the first wrote over");
}

// Images that are not channels-last and odd channel counts go to ATen and are right too.
void test_fallbacks() {
  auto x = at::randn({3, 5, 6, 6}), w = at::randn({7, 5, 1, 1});
  compare("contiguous conv", cordon::conv2d(x, w, 1, 0), at::conv2d(x, w), at::conv2d(x.to(at::kDouble), w.to(at::kDouble)));
  auto d = at::ones({5});
  auto want = at::batch_norm(x, d, d, {}, {}, true, 0.1, 1e-5, false).relu();
  compare("contiguous norm", cordon::batch_norm(x, {d, d, d.clone(), d.clone(), cordon::NormBatch, 0.1, 1e-5}, {}, true), want,
          want.to(at::kDouble));
  bool threw = false;
  try {
    cordon::conv2d(x, at::randn({7, 4, 1, 1}), 1, 0);
  } catch (const std::exception&) {
    threw = true;
  }
  if (!threw) fail("a kernel of another channel count was taken");
}

// 20 steps of the definition by hand, in float64; large enough for two threads.
// Gradients come in both layouts; those of 1×1 kernels differ in strides alone that
// mean nothing (whether one is copied cannot be seen here).
void test_sgd(int64_t kernel, bool nesterov) {
  at::Tensor p = at::randn({64, 1440 / (kernel * kernel), kernel, kernel}).contiguous(kLast), v = at::zeros_like(p);
  auto q = p.to(at::kDouble), u = v.to(at::kDouble);
  for (int i = 0; i < 20; i++) {
    auto g = at::randn(p.sizes());
    if (i % 2) g = g.permute({0, 2, 3, 1}).clone(at::MemoryFormat::Contiguous).permute({0, 3, 1, 2});
    auto d = g.to(at::kDouble) + 1e-2 * q;
    u = 0.9 * u + d;
    q = q - 0.1 * (nesterov ? d + 0.9 * u : u);
    descend(p, v, g, {0.1, 0.9, 1e-2, nesterov});
  }
  checks += 2;
  if (!(off_by(p, q) <= 1e-6)) fail("sgd: off by " + std::to_string(off_by(p, q) * 1e6) + "e-6");
  if (!(off_by(v, u) <= 1e-6)) fail("sgd, velocity: off by " + std::to_string(off_by(v, u) * 1e6) + "e-6");
}

// Where ReLU's output is NaN its gradient passes, as in ATen.
void test_nan(at::ScalarType type) {
  Norm t{2, 32, 3, 3, cordon::NormRunning, true, true};
  auto x = at::zeros({t.n, t.c, t.h, t.w}).to(type), ones = at::ones_like(x), residual = ones.clone();
  residual[0][5][1][1] = NAN;
  Results in = {x, at::ones({t.c}), at::ones({t.c}), at::zeros({t.c}), at::ones({t.c}), residual, ones};
  auto own = run_norm(t, type, in, true);
  checks++;
  if (!own[0].isnan().equal(residual.isnan()) || !own[6].equal(ones)) fail("NaN" + type_name(type));
  auto w = at::eye(32).view({32, 32, 1, 1}).contiguous(kLast).requires_grad_(true), one = at::ones({32});
  x = at::zeros({2, 32, 5, 6}).to(type).contiguous(kLast);
  x[0][5][2][3] = NAN;
  cordon::Norm norm = {one, one, at::zeros({32}), one, cordon::NormRunning, 0.1, 1e-5};
  auto y = cordon::conv_norm_pool(x, w, 1, 0, norm), want = at::max_pool2d(cordon::conv_norm(x, w, 1, 0, norm, {}, true), 3, 2, 1);
  checks++;
  if (!y.isnan().any().item<bool>() || !y.isnan().equal(want.isnan())) fail("NaN in a pool" + type_name(type));
}

// Blocks taken and given back in any order, some of them scratch, never overlap, and join again.
void test_heap() {
  struct Block {
    unsigned char* data;
    size_t size;
    std::shared_ptr<void> owner;
  };
  std::mt19937 random(1);
  auto allocator = c10::GetCPUAllocator();
  auto of_tensor = [&](size_t n) {
    auto owner = std::make_shared<c10::DataPtr>(allocator->allocate(n));
    return Block{static_cast<unsigned char*>(owner->get()), n, owner};
  };
  auto of_scratch = [](size_t n) {
    auto owner = std::make_shared<at::Tensor>(cordon::scratch({(int64_t)n}, at::kByte));
    return Block{owner->data_ptr<uint8_t>(), n, owner};
  };
  std::vector<Block> held;
  auto drop = [&](size_t i) {
    auto [p, n, owner] = held[i];
    checks++;
    if ((uintptr_t)p % 64 || p[0] != n % 251 || p[n / 2] != n % 251 || p[n - 1] != n % 251)
      fail("heap: a block of " + std::to_string(n) + " bytes");
    std::swap(held[i], held.back());
    held.pop_back();
  };
  auto lowest = of_tensor(1 << 20).data, highest = of_scratch(1 << 20).data;
  if (highest < lowest + (1 << 30)) fail("heap: scratch beside the tensors");
  for (int i = 0; i < 3000; i++) {
    size_t n = random() % (i % 2 ? 1 << 12 : 1 << 20) + 1;
    held.push_back(i % 3 ? of_tensor(n) : of_scratch(n));
    std::memset(held.back().data, (int)(n % 251), n);
    while (held.size() > 100) drop(random() % held.size());
  }
  while (!held.empty()) drop(random() % held.size());
  checks++;
  if (of_tensor(1 << 20).data != lowest || of_scratch(1 << 20).data != highest) fail("heap: the blocks did not join");
}

}  // namespace

int main() {
  const char* wanted = std::getenv("CORDON_FORCE_ISA");
  if (wanted && *wanted && std::strcmp(wanted, cordon::isa_name()) != 0) {
    std::printf("%s: not on this processor\n", wanted);
    return 0;
  }
  std::printf("%s: ", cordon::isa_name());
  bool heap = cordon::use_heap();
  at::manual_seed(1);
  for (int threads : {1, 2}) {
    at::set_num_threads(threads);
    for (auto type : {at::kFloat, at::kBFloat16}) {
      const Conv convs[] = {
          {128, 64, 8, 8, 256, 1, 1, 0}, {5, 32, 7, 7, 48, 1, 1, 0},    {2, 64, 1, 1, 128, 1, 1, 0},
          {1, 16, 1, 1, 16, 1, 1, 0},    {7, 32, 7, 7, 64, 1, 2, 0},    {4, 32, 5, 6, 16, 1, 3, 0},
          {64, 64, 4, 4, 128, 1, 2, 0},  {128, 512, 1, 1, 256, 1, 1, 0},  {3, 17, 3, 5, 9, 1, 1, 0},
          {128, 64, 2, 2, 64, 3, 1, 1},  {6, 32, 2, 2, 48, 3, 2, 1},      {5, 48, 1, 1, 32, 3, 1, 1},
          {4, 32, 1, 1, 64, 3, 2, 1}, {2, 32, 1, 1, 16, 3, 2, 1},    {3, 16, 2, 1, 8, 3, 1, 1},       {3, 16, 1, 4, 8, 3, 2, 1},
          {4, 8, 2, 2, 8, 5, 1, 2},      {4, 3, 2, 2, 8, 7, 2, 3},        {4, 8, 2, 2, 8, 2, 1, 0},
          {3, 8, 2, 2, 8, 2, 2, 1},      {32, 32, 8, 8, 64, 3, 2, 1},     {5, 32, 7, 7, 32, 3, 2, 1},
          {3, 16, 4, 3, 16, 3, 3, 1},    {9, 32, 4, 4, 32, 3, 1, 1},      {4, 3, 28, 28, 64, 7, 2, 3},
          {4, 1, 5, 5, 8, 1, 1, 0},      {4, 8, 5, 5, 1, 1, 1, 0},       {4, 1, 5, 5, 1, 1, 2, 0},
          {4, 16, 3, 3, 8, 1, 1, 1},     {4, 16, 9, 9, 8, 3, 2, 0},
          {8, 32, 4, 4, 16, 1, 1, 0, false, true}, {8, 32, 4, 4, 16, 1, 2, 0, true, false},
          {8, 32, 2, 2, 16, 3, 1, 1, false, true}, {8, 32, 2, 2, 16, 3, 1, 1, true, false},
          {8, 32, 4, 4, 16, 3, 2, 1, false, true}, {8, 32, 4, 4, 16, 3, 2, 1, true, false},
          {8, 32, 4, 4, 16, 1, 1, 0, false, false},
          // Winograd's: whole tiles and parts of some, blocks of a thread each and of all.
          {3, 32, 5, 7, 48, 3, 1, 1},    {2, 64, 9, 9, 32, 3, 1, 1},      {1, 64, 32, 32, 64, 3, 1, 1},
          {9, 128, 4, 4, 128, 3, 1, 1},  {20, 64, 16, 16, 64, 3, 1, 1},   {40, 256, 4, 4, 512, 3, 1, 1},
          {70, 32, 7, 7, 48, 3, 1, 1},   {24, 48, 13, 11, 32, 3, 1, 1},   {1, 32, 64, 64, 32, 3, 1, 1},
          {7, 64, 9, 8, 48, 3, 1, 1, false, true}, {7, 64, 8, 9, 48, 3, 1, 1, true, false},
          {300, 256, 2, 2, 128, 3, 1, 1}, {33, 32, 2, 2, 48, 3, 1, 1, false, true}, {32, 48, 2, 2, 32, 3, 1, 1, true, false},
          // With a stride of 2.
          {130, 32, 4, 4, 48, 3, 2, 1},  {40, 32, 7, 7, 32, 3, 2, 1},     {8, 48, 16, 15, 32, 3, 2, 1},
          {2, 64, 40, 40, 64, 3, 2, 1},  {32, 32, 8, 8, 64, 3, 2, 1, false, true}, {32, 64, 8, 8, 32, 3, 2, 1, true, false},
          // Tiles': few channels, groups of samples and none, more rows than a panel, few taps.
          {4, 3, 28, 28, 64, 7, 2, 3, false, true}, {9, 3, 5, 7, 32, 3, 1, 1, false, true},
          {3, 1, 28, 28, 32, 3, 1, 1, false, true}, {70, 64, 6, 5, 32, 3, 2, 1}, {33, 32, 3, 3, 96, 5, 1, 2},
          {2, 96, 40, 40, 32, 3, 1, 1},             {160, 256, 4, 4, 512, 1, 1, 0}, {3, 64, 33, 31, 64, 3, 3, 0},
          {8, 32, 4, 4, 32, 3, 1, 1, false, true},  {8, 32, 4, 4, 32, 3, 1, 1, true, false}};
      for (const auto& c : convs) test_conv(c, type);
      for (auto mode : {cordon::NormTrain, cordon::NormBatch, cordon::NormRunning})
        for (bool residual : {false, true})
          for (bool relu : {false, true}) {
            test_norm({128, 64, 8, 8, mode, residual, relu}, type);
            test_norm({5, 48, 7, 3, mode, residual, relu}, type);
            test_norm({2, 2048, 1, 1, mode, residual, relu}, type);
            test_norm({3, 20, 5, 5, mode, residual, relu}, type);
            test_norm({8, 32, 4, 4, mode, residual, relu, false, true, true}, type);
            test_norm({8, 32, 4, 4, mode, residual, relu, true, false, false}, type);
            test_norm({8, 32, 4, 4, mode, residual, relu, false, false, true}, type);
          }
      // A mean far from 0 shows a one-pass variance.
      test_norm({64, 32, 8, 8, cordon::NormTrain, false, false, true, true, true, 300}, type);
    }
    for (bool residual : {false, true})
      for (bool relu : {false, true})
        for (const auto& c : {Conv{16, 64, 8, 8, 256, 1, 1, 0}, {5, 32, 7, 7, 48, 1, 2, 0}, {40, 512, 1, 1, 80, 1, 1, 0},
                              {33, 64, 2, 2, 64, 3, 1, 1}, {3, 32, 2, 2, 48, 3, 2, 1}, {5, 48, 1, 1, 32, 3, 1, 1},
                              {9, 32, 4, 4, 32, 3, 2, 1}, {3, 32, 5, 7, 48, 3, 1, 1}, {20, 64, 16, 16, 64, 3, 1, 1}, {70, 32, 7, 7, 48, 3, 1, 1},
                              {4, 3, 28, 28, 64, 7, 2, 3}, {5, 32, 12, 12, 32, 3, 2, 1}, {33, 32, 8, 8, 48, 3, 2, 1}, {4, 8, 5, 5, 20, 1, 1, 0}})
          test_folded(c, residual, relu);
    for (auto type : {at::kFloat, at::kBFloat16}) {
      for (const auto& c : {Conv{16, 64, 8, 8, 256, 1, 1, 0}, {5, 32, 7, 7, 48, 1, 2, 0}, {40, 512, 1, 1, 80, 1, 1, 0},
                            {33, 64, 2, 2, 64, 3, 1, 1}, {32, 32, 2, 2, 48, 3, 2, 1}, {50, 48, 1, 1, 32, 3, 1, 1},
                            {9, 32, 4, 4, 32, 3, 2, 1}, {20, 64, 16, 16, 64, 3, 1, 1}, {4, 3, 28, 28, 64, 7, 2, 3},
                            {5, 32, 20, 20, 32, 3, 2, 1}, {33, 32, 8, 8, 48, 3, 2, 1}, {4, 8, 5, 5, 20, 1, 1, 0}})
        test_fork(c, type, false);
      for (const auto& c : {Conv{16, 64, 8, 8, 64, 1, 1, 0}, {33, 64, 2, 2, 64, 3, 1, 1}, {50, 32, 1, 1, 32, 3, 1, 1},
                            {20, 64, 16, 16, 64, 3, 1, 1}})
        test_fork(c, type, true);
      for (auto mode : {cordon::NormTrain, cordon::NormBatch, cordon::NormRunning})
        for (const auto& c : {Conv{4, 3, 28, 28, 64, 7, 2, 3}, {3, 3, 15, 26, 64, 7, 2, 3}, {2, 16, 7, 9, 32, 3, 1, 1},
                              {5, 16, 2, 1, 48, 3, 1, 1}, {3, 32, 1, 1, 16, 1, 1, 0}, {4, 8, 5, 5, 20, 1, 1, 0},
                              {4, 3, 28, 28, 64, 7, 2, 3, false, true}, {4, 3, 28, 28, 64, 7, 2, 3, false, false}})
          test_pool(c, type, mode);
    }
    test_folded_again();
    test_folded_at_once();
    test_backward_twice();
    test_fallbacks();
    for (int64_t kernel : {1, 3})
      for (bool nesterov : {false, true}) test_sgd(kernel, nesterov);
    test_nan(at::kFloat);
    test_nan(at::kBFloat16);
  }
  if (heap) test_heap();
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
