// Times cordon's operators against ATen's on the shapes of a ResNet-50 at 32×32
// and 28×28, and the whole training step. The two take turns, so that a busy
// machine slows both; medians are printed.
//
//   ops_bench [threads [batch]]
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#include "heap.h"
#include "ops.h"

namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

double seconds(const std::function<void()>& f) {
  auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Pair {
  double own, aten;
};

// Medians of some runs that take turns, after one of each to warm up.
Pair race(const std::function<void(bool own)>& f, int runs) {
  std::vector<double> own, aten;
  for (int i = -1; i < runs; i++) {
    double a = seconds([&] { f(true); }), b = seconds([&] { f(false); });
    if (i < 0) continue;
    own.push_back(a);
    aten.push_back(b);
  }
  auto median = [](std::vector<double>& t) {
    std::sort(t.begin(), t.end());
    return t[t.size() / 2];
  };
  return {median(own), median(aten)};
}

at::Tensor conv(bool own, const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  return own ? cordon::conv2d(x, w, stride, padding)
             : at::conv2d(x, w.to(x.scalar_type()), {}, {stride, stride}, {padding, padding});
}

struct Norm {
  at::Tensor weight, bias, mean, var;
};

at::Tensor norm(bool own, const at::Tensor& x, Norm& n, const at::Tensor& residual, bool relu) {
  if (own) return cordon::batch_norm(x, {n.weight, n.bias, n.mean, n.var, cordon::NormTrain, 0.1, 1e-5}, residual, relu);
  auto y = at::batch_norm(x, n.weight, n.bias, n.mean, n.var, true, 0.1, 1e-5, true);
  if (residual.defined()) y = y.add_(residual);
  return relu ? y.relu_() : y;
}

Norm make_norm(int64_t c) {
  auto ones = [&](bool grad) { return at::ones({c}).requires_grad_(grad); };
  return {ones(true), ones(true), ones(false), ones(false)};
}

at::Tensor make_weight(int64_t co, int64_t ci, int64_t k) {
  auto w = at::randn({co, ci, k, k}) * std::sqrt(2.0 / (co * k * k));
  return w.contiguous(kLast).requires_grad_(true);
}

// ---- One operator ----

void bench_conv(int64_t n, int64_t ci, int64_t size, int64_t co, int64_t k, int64_t stride, at::ScalarType type) {
  auto x = at::randn({n, ci, size, size}).to(type).contiguous(kLast).requires_grad_(ci > 3);
  auto w = make_weight(co, ci, k);
  auto dy = at::randn_like(conv(false, x, w, stride, k / 2)).detach();
  at::Tensor y[2];
  auto forward = race([&](bool own) { y[own] = conv(own, x, w, stride, k / 2); }, 7);
  auto both = race(
      [&](bool own) {
        conv(own, x, w, stride, k / 2).backward(dy);
        x.mutable_grad().reset();
        w.mutable_grad().reset();
      },
      7);
  std::printf("conv %4ld %2ldx%-2ld to %4ld k%ld s%ld %s  forward %6.2f ms (ATen %6.2f)  step %6.2f ms (ATen %6.2f)\n",
              (long)ci, (long)size, (long)size, (long)co, (long)k, (long)stride, type == at::kFloat ? "fp32" : "bf16",
              forward.own * 1e3, forward.aten * 1e3, both.own * 1e3, both.aten * 1e3);
}

void bench_norm(int64_t n, int64_t c, int64_t size, bool residual, at::ScalarType type) {
  auto make = [&] { return at::randn({n, c, size, size}).to(type).contiguous(kLast).requires_grad_(true); };
  auto x = make(), dy = make().detach(), res = residual ? make() : at::Tensor();
  auto parameters = make_norm(c);
  auto both = race(
      [&](bool own) {
        norm(own, x, parameters, res, true).backward(dy);
        x.mutable_grad().reset();
        if (residual) res.mutable_grad().reset();
      },
      7);
  std::printf("norm %4ld %2ldx%-2ld%s %s  step %6.2f ms (ATen %6.2f)\n", (long)c, (long)size, (long)size,
              residual ? " + residual" : "", type == at::kFloat ? "fp32" : "bf16", both.own * 1e3, both.aten * 1e3);
}

// The stem with its pool in one, against its norm and ATen's pool one after the other.
void bench_stem(int64_t n, int64_t size) {
  auto x = at::randn({n, 3, size, size}).contiguous(kLast), w = make_weight(64, 3, 7);
  auto p = make_norm(64);
  auto dy = at::randn({n, 64, size / 4, size / 4}).contiguous(kLast);
  cordon::Norm norm = {p.weight, p.bias, p.mean, p.var, cordon::NormTrain, 0.1, 1e-5};
  auto t = race(
      [&](bool own) {
        auto y = own ? cordon::conv_norm_pool(x, w, 2, 3, norm)
                     : at::max_pool2d(cordon::conv_norm(x, w, 2, 3, norm, {}, true), {3, 3}, {2, 2}, {1, 1});
        y.backward(dy);
        w.mutable_grad().reset();
      },
      21);
  std::printf("stem %ldx%ld fp32  step %6.2f ms (with ATen's pool %6.2f)\n", (long)size, (long)size, t.own * 1e3, t.aten * 1e3);
}

// A convolution with its norm in evaluation, n images.
void bench_evaluation(int64_t n, int64_t ci, int64_t size, int64_t co, int64_t k, int64_t stride, bool residual) {
  c10::AutoGradMode off(false);
  auto x = at::randn({n, ci, size, size}).contiguous(kLast), w = make_weight(co, ci, k).detach();
  auto res = residual ? at::randn_like(conv(false, x, w, stride, k / 2)) : at::Tensor();
  auto p = make_norm(co);
  auto t = race(
      [&](bool own) {
        if (own) {
          cordon::conv_norm(x, w, stride, k / 2, {p.weight, p.bias, p.mean, p.var, cordon::NormRunning, 0.1, 1e-5}, res, true);
          return;
        }
        auto y = at::batch_norm(conv(false, x, w, stride, k / 2), p.weight, p.bias, p.mean, p.var, false, 0.1, 1e-5, true);
        (residual ? y.add_(res) : y).relu_();
      },
      7);
  std::printf("evaluation %4ld %2ldx%-2ld to %4ld k%ld s%ld%s fp32  %6.2f ms (ATen %6.2f)\n", (long)ci, (long)size, (long)size,
              (long)co, (long)k, (long)stride, residual ? " + residual" : "", t.own * 1e3, t.aten * 1e3);
}

// The backward pass and a step of SGD, against ATen's operations one by one.
void descend(bool own, const at::Tensor& loss, std::vector<at::Tensor>& params, std::vector<at::Tensor>& velocity) {
  if (own) return cordon::descend(loss, params, velocity, {1e-3, 0.9, 5e-4, false});
  loss.backward();
  c10::AutoGradMode off(false);
  for (size_t i = 0; i < params.size(); i++) {
    params[i].add_(velocity[i].mul_(0.9).add_(params[i].grad().add(params[i], 5e-4)), -1e-3);
    params[i].mutable_grad().reset();
  }
}

// SGD over one kernel.
void bench_sgd(int64_t co, int64_t ci, int64_t k) {
  std::vector<at::Tensor> p = {make_weight(co, ci, k)}, v = {at::zeros_like(p[0].detach())};
  auto t = race([&](bool own) { descend(own, p[0].sum(), p, v); }, 7);
  std::printf("sgd %ld parameters  %6.2f ms (ATen %6.2f)\n", (long)p[0].numel(), t.own * 1e3, t.aten * 1e3);
}

// ---- ResNet-50 ----

struct Layer {
  at::Tensor weight;
  Norm norm;
  int64_t stride;
};

struct Block {
  Layer a, b, c, down;  // down has no weight where the input is added as it is
};

struct ResNet50 {
  Layer stem;
  std::vector<Block> blocks;
  at::Tensor fc_weight, fc_bias;
  std::vector<at::Tensor> parameters, velocity;

  Layer layer(int64_t co, int64_t ci, int64_t k, int64_t stride) {
    Layer l{make_weight(co, ci, k), make_norm(co), stride};
    for (auto& p : {l.weight, l.norm.weight, l.norm.bias}) add(p);
    return l;
  }

  void add(const at::Tensor& p) {
    parameters.push_back(p);
    velocity.push_back(at::zeros_like(p.detach()));
  }

  ResNet50() {
    stem = layer(64, 3, 7, 2);
    int64_t in = 64, width = 64;
    for (int64_t depth : {3, 4, 6, 3}) {
      for (int64_t i = 0; i < depth; i++) {
        int64_t stride = i == 0 && width > 64 ? 2 : 1;
        Block b{layer(width, in, 1, 1), layer(width, width, 3, stride), layer(4 * width, width, 1, 1), {}};
        if (i == 0) b.down = layer(4 * width, in, 1, stride);
        blocks.push_back(b);
        in = 4 * width;
      }
      width *= 2;
    }
    fc_weight = (at::randn({10, in}) * 0.01).requires_grad_(true);
    fc_bias = at::zeros({10}).requires_grad_(true);
    add(fc_weight);
    add(fc_bias);
  }

  at::Tensor apply(bool own, Layer& l, const at::Tensor& x, const at::Tensor& residual, bool relu) {
    return norm(own, conv(own, x, l.weight, l.stride, l.weight.size(2) / 2), l.norm, residual, relu);
  }

  at::Tensor forward(bool own, at::Tensor x) {
    x = at::max_pool2d(apply(own, stem, x, {}, true), {3, 3}, {2, 2}, {1, 1});
    for (auto& b : blocks) {
      auto shortcut = b.down.weight.defined() ? apply(own, b.down, x, {}, false) : x;
      x = apply(own, b.c, apply(own, b.b, apply(own, b.a, x, {}, true), {}, true), shortcut, true);
    }
    return at::linear(at::adaptive_avg_pool2d(x, {1, 1}).flatten(1).to(at::kFloat), fc_weight, fc_bias);
  }

  double step(bool own, const at::Tensor& x, const at::Tensor& labels) {
    auto loss = at::cross_entropy_loss(forward(own, x), labels);
    descend(own, loss, parameters, velocity);
    return loss.item<double>();
  }
};

void bench_step(int64_t n, int64_t size, at::ScalarType type) {
  at::manual_seed(1);
  ResNet50 net[2];
  auto x = at::randn({n, 3, size, size}).to(type).contiguous(kLast);
  auto labels = at::randint(10, {n}, at::kLong);
  auto t = race([&](bool own) { net[own].step(own, x, labels); }, 9);
  std::printf("ResNet-50 %ldx%ld batch %ld %s: %.0f images/s (%.1f ms), ATen %.0f (%.1f ms), %.2f times as fast\n",
              (long)size, (long)size, (long)n, type == at::kFloat ? "fp32" : "bf16", n / t.own, t.own * 1e3, n / t.aten,
              t.aten * 1e3, t.aten / t.own);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  cordon::use_heap();
  at::set_num_threads(argc > 1 ? std::atoi(argv[1]) : (int)std::thread::hardware_concurrency());
  int64_t n = argc > 2 ? std::atoi(argv[2]) : 128;
  for (int64_t size : {32, 28})
    for (auto type : {at::kFloat, at::kBFloat16}) bench_step(n, size, type);
  const int64_t convs[][5] = {
      {3, 32, 64, 7, 2},   {64, 8, 64, 1, 1},    {64, 8, 64, 3, 1},     {64, 8, 256, 1, 1},   {256, 8, 64, 1, 1},
      {256, 8, 128, 1, 1}, {128, 8, 128, 3, 2},  {256, 8, 512, 1, 2},   {128, 4, 512, 1, 1},  {512, 4, 128, 1, 1},
      {128, 4, 128, 3, 1}, {512, 4, 256, 1, 1},  {256, 4, 256, 3, 2},   {512, 4, 1024, 1, 2}, {256, 2, 1024, 1, 1},
      {1024, 2, 256, 1, 1}, {256, 2, 256, 3, 1}, {1024, 2, 512, 1, 1},  {512, 2, 512, 3, 2},  {1024, 2, 2048, 1, 2},
      {512, 1, 2048, 1, 1}, {2048, 1, 512, 1, 1}, {512, 1, 512, 3, 1}};
  // Winograd's besides: those of a PreAct-ResNet-18 at 32×32, and larger images.
  const int64_t winograd[][4] = {{128, 64, 32, 64},  {128, 128, 16, 128}, {128, 256, 8, 256},
                                 {128, 512, 4, 512}, {64, 64, 16, 64},    {16, 64, 56, 64}};
  for (auto& c : winograd) bench_conv(c[0], c[1], c[2], c[3], 3, 1, at::kFloat);
  const int64_t norms[][3] = {{64, 16, 0}, {64, 8, 0}, {256, 8, 1}, {128, 4, 0}, {512, 4, 1},
                              {256, 2, 0}, {1024, 2, 1}, {512, 1, 0}, {2048, 1, 1}};
  for (auto type : {at::kFloat, at::kBFloat16}) {
    for (auto& c : convs) bench_conv(n, c[0], c[1], c[2], c[3], c[4], type);
    for (auto& b : norms) bench_norm(n, b[0], b[1], b[2] != 0, type);
  }
  for (int64_t size : {32, 64}) bench_stem(n, size);
  for (auto& c : convs) bench_evaluation(2 * n, c[0], c[1], c[2], c[3], c[4], c[3] == 1 && c[2] == 4 * c[0]);
  bench_sgd(512, 512, 3);
}
