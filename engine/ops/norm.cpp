// Batch norm, the addition of a residual and ReLU in one pass over memory, and
// their gradients in two. Channels-last on the CPU; all else is ATen's.
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"
#include "ops.h"
#include "shape.h"

namespace cordon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

// What a channel's values are normalised by: (x - mean) · scale + bias.
struct Affine {
  const float *mean, *scale, *bias;
};

// Where ReLU's sign is read from: nowhere (no ReLU), its output y, or x.
enum class Gate { kNone, kOutput, kInput };

// ---- Kernels, one set for every kind of processor ----

template <class T>
struct Kernels {
  void (*moments)(const T* x, int64_t rows, int64_t channels, float* mean, float* squares);
  void (*normalize)(const T* x, const T* residual, T* y, int64_t rows, int64_t channels, const Affine&, bool relu);
  void (*gradient_sums)(const T* dy, const T* y, const T* x, T* dz, int64_t rows, int64_t channels, const Affine&, Gate,
                        float* sums, float* dots);
  void (*gradient)(const T* dy, const T* y, const T* x, T* dx, int64_t rows, int64_t channels, const Affine&, Gate,
                   const float* slope, const float* offset);
};

#define CORDON_KERNELS basic
#define CORDON_WIDTH 4
#include "norm_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CORDON_X86_KERNELS
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define CORDON_KERNELS avx2
#define CORDON_WIDTH 8
#include "norm_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define CORDON_KERNELS avx512
#define CORDON_WIDTH 16
#include "norm_kernels.inc"
#undef CORDON_KERNELS
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#define CORDON_KERNELS avx512_bf16
#define CORDON_BF16
#include "norm_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH
#undef CORDON_BF16
#pragma GCC pop_options
#endif

template <class T>
const Kernels<T>& best_kernels() {
#ifdef CORDON_X86_KERNELS
  if (isa() >= Isa::kAvx512Bf16) return avx512_bf16::kernels<T>;
  if (isa() >= Isa::kAvx512) return avx512::kernels<T>;
  if (isa() >= Isa::kAvx2) return avx2::kernels<T>;
#endif
  return basic::kernels<T>;
}

// ---- Work in blocks ----
//
// Rows are cut into blocks. The cut depends on the shape alone and the blocks'
// sums are added in their order, in double: the result is the same for any
// number of threads.

struct Blocks {
  int64_t rows, channels, height, count;

  explicit Blocks(const at::Tensor& x) : rows(x.numel() / x.size(1)), channels(x.size(1)) {
    height = std::max<int64_t>(1, (1 << 14) / channels);
    count = (rows + height - 1) / height;
  }
  int64_t size(int64_t block) const { return std::min(height, rows - block * height); }

  // Calls f(first element, rows, block).
  template <class F>
  void each(F f) const {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; b++) f(b * height * channels, size(b), b);
    });
  }
};

template <class T>
T* data(const at::Tensor& t) {
  return t.defined() && t.numel() > 0 ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// Adds weighted values of all channels to their sums.
CORDON_VECTORS void add(const float* values, int64_t channels, double weight, double* sums) {
  for (int64_t i = 0; i < channels; i++) sums[i] += values[i] * weight;
}

// Adds a block's squares around its means, moved to the means of all.
CORDON_VECTORS void add_squares(const float* means, const float* squares, const double* mean, int64_t channels,
                                int64_t rows, double weight, double* variance) {
  for (int64_t i = 0; i < channels; i++) {
    double d = means[i] - mean[i];
    variance[i] += (squares[i] + d * d * rows) * weight;
  }
}

// The mean and the biased variance of every channel.
template <class T>
void statistics(const at::Tensor& x, std::vector<double>& mean, std::vector<double>& variance) {
  Blocks blocks(x);
  int64_t c = blocks.channels;
  auto sums = at::empty({2, blocks.count, c}, at::kFloat);
  float *means = data<float>(sums), *squares = means + blocks.count * c;
  const auto& kernels = best_kernels<T>();
  const T* in = data<T>(x);
  blocks.each([&](int64_t at, int64_t rows, int64_t b) {
    kernels.moments(in + at, rows, c, means + b * c, squares + b * c);
  });
  mean.assign(c, 0);
  variance.assign(c, 0);
  for (int64_t b = 0; b < blocks.count; b++) add(means + b * c, c, (double)blocks.size(b) / blocks.rows, mean.data());
  for (int64_t b = 0; b < blocks.count; b++)
    add_squares(means + b * c, squares + b * c, mean.data(), c, blocks.size(b), 1.0 / blocks.rows, variance.data());
}

// What x is normalised by; one float a channel each.
struct Moments {
  at::Tensor mean, invstd, scale;

  explicit Moments(const at::Tensor& like) : mean(at::empty_like(like)), invstd(at::empty_like(like)), scale(at::empty_like(like)) {}
  Moments(const at::Tensor& m, const at::Tensor& i, const at::Tensor& s) : mean(m), invstd(i), scale(s) {}
  Affine affine(const at::Tensor& bias) const { return {data<float>(mean), data<float>(scale), data<float>(bias)}; }
};

// Takes the moments of x, or the running ones, and updates those.
template <class T>
Moments take_moments(const at::Tensor& x, const Norm& n) {
  Moments out(n.weight);
  int64_t c = x.size(1), values = x.numel() / c;
  float *mean = data<float>(out.mean), *inv = data<float>(out.invstd), *scale = data<float>(out.scale);
  float *running_mean = data<float>(n.running_mean), *running_var = data<float>(n.running_var);
  const float* w = data<float>(n.weight);
  std::vector<double> means, variances;
  if (n.mode == NormRunning) {
    means.assign(running_mean, running_mean + c);
    variances.assign(running_var, running_var + c);
  } else {
    statistics<T>(x, means, variances);
  }
  for (int64_t i = 0; i < c; i++) {
    mean[i] = means[i];
    inv[i] = 1 / std::sqrt(variances[i] + n.eps);
    scale[i] = w[i] * inv[i];
  }
  if (n.mode != NormTrain) return out;
  for (int64_t i = 0; i < c; i++) {
    running_mean[i] = (1 - n.momentum) * running_mean[i] + n.momentum * means[i];
    running_var[i] = (1 - n.momentum) * running_var[i] + n.momentum * variances[i] * values / (values - 1);
  }
  return out;
}

template <class T>
at::Tensor normalized(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual, const Moments& m, bool relu) {
  Blocks blocks(x);
  auto y = at::empty(x.sizes(), x.options().memory_format(kLast));
  const auto& kernels = best_kernels<T>();
  const T *in = data<T>(x), *res = data<T>(residual);
  T* out = data<T>(y);
  auto affine = m.affine(bias);
  blocks.each([&](int64_t at, int64_t rows, int64_t) {
    kernels.normalize(in + at, res ? res + at : nullptr, out + at, rows, blocks.channels, affine, relu);
  });
  return y;
}

struct Gradients {
  at::Tensor x, weight, bias, residual;
};

// What backward works on. y is read only by Gate::kOutput; `constant` says that
// the moments do not depend on x.
struct Saved {
  at::Tensor x, y, weight, bias;
  Moments moments;
  Gate gate;
  bool constant;
};

template <class T>
Gradients backward(const at::Tensor& grad, const Saved& s, bool needs_x, bool needs_residual) {
  Blocks blocks(s.x);
  int64_t c = blocks.channels;
  Gradients out;
  out.weight = at::empty_like(s.weight);
  out.bias = at::empty_like(s.weight);
  const auto& kernels = best_kernels<T>();
  const T *dy = data<T>(grad), *y = data<T>(s.y), *in = data<T>(s.x);
  Gate gate = s.gate;
  T* dz = nullptr;  // where the gradient before ReLU is wanted by itself
  if (needs_residual) out.residual = gate == Gate::kNone ? grad : at::empty_like(grad);
  if (needs_residual && gate != Gate::kNone) dz = data<T>(out.residual);
  auto affine = s.moments.affine(s.bias);

  auto both = at::empty({2, blocks.count, c}, at::kFloat);
  float *sums = data<float>(both), *dots = sums + blocks.count * c;
  blocks.each([&](int64_t at, int64_t rows, int64_t b) {
    kernels.gradient_sums(dy + at, gate == Gate::kOutput ? y + at : nullptr, in + at, dz ? dz + at : nullptr, rows, c, affine, gate, sums + b * c, dots + b * c);
  });
  std::vector<double> sum(c), dot(c);
  for (int64_t b = 0; b < blocks.count; b++) {
    add(sums + b * c, c, 1, sum.data());
    add(dots + b * c, c, 1, dot.data());
  }
  std::vector<float> slope(c), offset(c);
  const float* inv = data<float>(s.moments.invstd);
  for (int64_t i = 0; i < c; i++) {
    data<float>(out.bias)[i] = sum[i];
    data<float>(out.weight)[i] = dot[i] * inv[i];
    if (s.constant) continue;
    slope[i] = -(double)affine.scale[i] * inv[i] * inv[i] * dot[i] / blocks.rows;
    offset[i] = -(double)affine.scale[i] * sum[i] / blocks.rows;
  }
  if (!needs_x) return out;

  out.x = at::empty_like(grad);
  T* dx = data<T>(out.x);
  if (dz) dy = dz, gate = Gate::kNone;
  blocks.each([&](int64_t at, int64_t rows, int64_t) {
    kernels.gradient(dy + at, gate == Gate::kOutput ? y + at : nullptr, in + at, dx + at, rows, c, affine, gate, slope.data(), offset.data());
  });
  return out;
}

struct BatchNorm : torch::autograd::Function<BatchNorm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& residual, const Norm& n, bool relu) {
    bool full = x.scalar_type() == at::kFloat;
    auto m = (full ? take_moments<float> : take_moments<uint16_t>)(x, n);
    auto y = (full ? normalized<float> : normalized<uint16_t>)(x, bias, residual, m, relu);
    Gate gate = !relu ? Gate::kNone : residual.numel() > 0 ? Gate::kOutput : Gate::kInput;
    ctx->save_for_backward({x, gate == Gate::kOutput ? y : at::Tensor(), weight, bias, m.mean, m.invstd, m.scale});
    ctx->saved_data["gate"] = (int64_t)gate;
    ctx->saved_data["constant"] = n.mode == NormRunning;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto v = ctx->get_saved_variables();
    Saved s{v[0], v[1], v[2], v[3], Moments(v[4], v[5], v[6]), (Gate)ctx->saved_data["gate"].toInt(),
            ctx->saved_data["constant"].toBool()};
    auto run = s.x.scalar_type() == at::kFloat ? cordon::backward<float> : cordon::backward<uint16_t>;
    auto g = run(grads[0].contiguous(kLast), s, ctx->needs_input_grad(0), ctx->needs_input_grad(3));
    return {g.x, g.weight, g.bias, g.residual, at::Tensor(), at::Tensor()};
  }
};

// What the kernels are written for.
bool ours(const at::Tensor& x, const Norm& n, const at::Tensor& residual) {
  if (!x.is_cpu() || x.dim() != 4 || x.numel() == 0 || x.size(1) % 16 != 0) return false;
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return false;
  if (!x.is_contiguous(kLast)) return false;
  if (residual.defined() && (!residual.is_cpu() || residual.scalar_type() != x.scalar_type() ||
                             residual.sizes() != x.sizes() || !residual.is_contiguous(kLast)))
    return false;
  int64_t c = x.size(1);
  if (!per_channel(n.weight, c) || !per_channel(n.bias, c)) return false;
  return n.mode == NormBatch || (per_channel(n.running_mean, c) && per_channel(n.running_var, c));
}

}  // namespace

at::Tensor batch_norm(const at::Tensor& x, const Norm& n, const at::Tensor& residual, bool relu) {
  TORCH_CHECK(x.dim() == 4, "expected 4 dimensions, got ", x.dim());
  TORCH_CHECK(n.mode == NormRunning || x.numel() > x.size(1), "batch statistics need more than one value per channel");
  if (ours(x, n, residual)) {
    if (n.mode == NormTrain)  // written to past ATen
      for (auto* t : {&n.running_mean, &n.running_var}) t->unsafeGetTensorImpl()->bump_version();
    // A Function takes no undefined tensors: an empty one stands for no residual.
    return BatchNorm::apply(x, n.weight, n.bias, residual.defined() ? residual : at::empty({0}), n, relu);
  }
  bool alone = n.mode == NormBatch;
  auto y = at::batch_norm(x, n.weight, n.bias, alone ? at::Tensor() : n.running_mean, alone ? at::Tensor() : n.running_var,
                          n.mode != NormRunning, n.momentum, n.eps, /*cudnn_enabled=*/true);
  if (residual.defined()) y = y.add_(residual);
  return relu ? y.relu_() : y;
}

}  // namespace cordon
