// Batch norm, the addition of a residual and ReLU, or ReLU and a max pool, in one pass over
// memory, and their gradients in two. Channels-last on the CPU; all else is ATen's.
#include "norm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"
#include "shape.h"
#include "share.h"

namespace cordon {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;
constexpr uint32_t kNoTap = 9;  // of 3×3

// What a channel's values are normalised by: (x - mean) · scale + bias.
struct Affine {
  const float *mean, *scale, *bias;
};

// ---- Kernels, one set for every kind of processor ----

template <class T>
struct Kernels {
  void (*moments)(const T* x, int64_t rows, int64_t channels, float* mean, float* squares);
  void (*normalize)(const T* x, const T* residual, T* y, int64_t rows, int64_t channels, const Affine&, bool relu);
  void (*gradient_sums)(const T* dy, const T* y, const T* x, T* dz, int64_t rows, int64_t channels, const Affine&, Gate,
                        float* sums, float* dots);
  void (*gradient)(const T* dy, const T* y, const T* x, T* dx, int64_t rows, int64_t channels, const Affine&, Gate,
                   const float* slope, const float* offset);
  void (*pool)(const T* const* rows, T* y, uint16_t* taken, int64_t width, int64_t channels);
  void (*unpool)(const T* const* dy, const uint16_t* const* taken, int64_t first, T* dz, int64_t width, int64_t channels);
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

  explicit Blocks(const at::Tensor& x) : Blocks(x, std::max<int64_t>(1, (1 << 14) / x.size(1))) {}
  Blocks(const at::Tensor& x, int64_t height) : rows(x.numel() / x.size(1)), channels(x.size(1)), height(height) {
    count = (rows + height - 1) / height;
  }
  int64_t size(int64_t block) const { return std::min(height, rows - block * height); }

  // Calls f(first element, rows, block).
  template <class F>
  void each(F f) const {
    share_out(count, 1, [&](int64_t b, int64_t) { f(b * height * channels, size(b), b); });
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

Affine affine_of(const at::Tensor& moments, const at::Tensor& bias) {
  const float* mean = data<float>(moments);
  return {mean, mean + 2 * moments.size(1), data<float>(bias)};
}

// The moments of x, or the running ones, which are updated.
template <class T>
at::Tensor take_moments(const at::Tensor& x, const Norm& n) {
  int64_t c = x.size(1), values = x.numel() / c;
  auto moments = at::empty({3, c}, at::kFloat);
  float *mean = data<float>(moments), *inv = mean + c, *scale = inv + c;
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
  if (n.mode != NormTrain) return moments;
  for (int64_t i = 0; i < c; i++) {
    running_mean[i] = (1 - n.momentum) * running_mean[i] + n.momentum * means[i];
    running_var[i] = (1 - n.momentum) * running_var[i] + n.momentum * variances[i] * values / (values - 1);
  }
  return moments;
}

at::Tensor image_like(const at::Tensor& x) { return at::empty(x.sizes(), x.options().memory_format(kLast)); }

template <class T>
at::Tensor normalized(const Normalization& n, const at::Tensor& residual) {
  Blocks blocks(n.x);
  auto y = image_like(n.x);
  const auto& kernels = best_kernels<T>();
  const T *in = data<T>(n.x), *res = data<T>(residual);
  T* out = data<T>(y);
  auto affine = affine_of(n.moments, n.bias);
  blocks.each([&](int64_t at, int64_t rows, int64_t) {
    kernels.normalize(in + at, res ? res + at : nullptr, out + at, rows, blocks.channels, affine, n.gate != Gate::kNone);
  });
  return y;
}

template <class T>
std::unique_ptr<T[]> some(int64_t count) { return std::unique_ptr<T[]>(new T[count]); }

// Row by row of the results, from three of x that are normalised in the cache.
template <class T>
at::Tensor max_pooled(const Normalization& n, at::Tensor& taken) {
  int64_t c = n.x.size(1), h = n.x.size(2), w = n.x.size(3), results = (h + 1) / 2, width = (w + 1) / 2 * c;
  auto y = at::empty({n.x.size(0), c, results, (w + 1) / 2}, n.x.options().memory_format(kLast));
  taken = at::empty(y.numel(), at::kShort);
  const auto& kernels = best_kernels<T>();
  const T* in = data<T>(n.x);
  T* out = data<T>(y);
  auto* taps = data<uint16_t>(taken);
  auto affine = affine_of(n.moments, n.bias);
  share_out(n.x.size(0) * results, 1, [&](int64_t r, int64_t) {
    auto memory = some<T>(3 * w * c);
    const T* rows[3] = {};
    for (int64_t i = 0; i < 3; i++) {
      int64_t at = r % results * 2 + i - 1;
      if (at < 0 || at >= h) continue;
      T* row = memory.get() + i * w * c;
      kernels.normalize(in + (r / results * h + at) * w * c, nullptr, row, w, c, affine, false);
      rows[i] = row;
    }
    kernels.pool(rows, out + r * width, taps + r * width, w, c);
  });
  return y;
}

// The gradient before the pool of row `at` of all images' rows.
template <class T>
void unpool(const Normalization& n, const T* dy, const uint16_t* taken, int64_t at, T* dz) {
  int64_t c = n.x.size(1), h = n.x.size(2), w = n.x.size(3), results = (h + 1) / 2, width = (w + 1) / 2 * c;
  int64_t row = at % h, first = at / h * results + row / 2;
  bool two = row % 2 == 1 && row / 2 + 1 < results;
  const T* from[2] = {dy + first * width, two ? dy + (first + 1) * width : nullptr};
  const uint16_t* taps[2] = {taken + first * width, taken + (first + 1) * width};
  best_kernels<T>().unpool(from, taps, 1 + row % 2, dz, w, c);
}

template <class T>
NormGradients gradients_of(const Normalization& n, const at::Tensor& grad, const at::Tensor& read, bool wants_x,
                           bool wants_residual, bool over_x, bool over_dy) {
  bool pool = n.gate == Gate::kPool;
  Blocks blocks = pool ? Blocks(n.x, n.x.size(3)) : Blocks(n.x);
  int64_t c = blocks.channels;
  NormGradients out;
  out.weight = at::empty({c}, at::kFloat);
  out.bias = at::empty({c}, at::kFloat);
  const auto& kernels = best_kernels<T>();
  Gate gate = pool ? Gate::kNone : n.gate;
  const T *dy = data<T>(grad), *y = gate == Gate::kOutput ? data<T>(read) : nullptr, *in = data<T>(n.x);
  T* dz = nullptr;  // where the gradient before ReLU is wanted by itself
  if (wants_residual) out.residual = gate == Gate::kNone || over_dy ? grad : image_like(n.x);
  if (wants_residual && gate != Gate::kNone) dz = data<T>(out.residual);
  auto affine = affine_of(n.moments, n.bias);
  // A block of the gradient of what the norm makes. Before a pool it is a row of an image, made in the cache.
  auto block_of_dy = [&](int64_t at, int64_t b, std::unique_ptr<T[]>& memory) -> const T* {
    if (!pool) return dy + at;
    memory = some<T>(blocks.height * c);
    unpool(n, dy, data<uint16_t>(read), b, memory.get());
    return memory.get();
  };

  auto both = at::empty({2, blocks.count, c}, at::kFloat);
  float *sums = data<float>(both), *dots = sums + blocks.count * c;
  blocks.each([&](int64_t at, int64_t rows, int64_t b) {
    std::unique_ptr<T[]> memory;
    kernels.gradient_sums(block_of_dy(at, b, memory), y ? y + at : nullptr, in + at, dz ? dz + at : nullptr, rows, c, affine,
                          gate, sums + b * c, dots + b * c);
  });
  std::vector<double> sum(c), dot(c);
  for (int64_t b = 0; b < blocks.count; b++) {
    add(sums + b * c, c, 1, sum.data());
    add(dots + b * c, c, 1, dot.data());
  }
  std::vector<float> slope(c), offset(c);
  const float* inv = affine.mean + c;
  float *dw = data<float>(out.weight), *db = data<float>(out.bias);
  for (int64_t i = 0; i < c; i++) {
    db[i] = sum[i];
    dw[i] = dot[i] * inv[i];
    if (n.constant) continue;
    slope[i] = -(double)affine.scale[i] * inv[i] * inv[i] * dot[i] / blocks.rows;
    offset[i] = -(double)affine.scale[i] * sum[i] / blocks.rows;
  }
  if (!wants_x) return out;

  out.x = over_x ? n.x : image_like(n.x);
  if (over_x) out.x.unsafeGetTensorImpl()->bump_version();
  T* dx = data<T>(out.x);
  if (dz) dy = dz, y = nullptr, gate = Gate::kNone;
  blocks.each([&](int64_t at, int64_t rows, int64_t b) {
    std::unique_ptr<T[]> memory;
    kernels.gradient(block_of_dy(at, b, memory), y ? y + at : nullptr, in + at, dx + at, rows, c, affine, gate, slope.data(),
                     offset.data());
  });
  return out;
}

bool is_float(const at::Tensor& x) { return x.scalar_type() == at::kFloat; }

}  // namespace

bool norm_in_our_layout(at::ScalarType type, at::IntArrayRef sizes, const Norm& n, const at::Tensor& residual) {
  if (type != at::kFloat && type != at::kBFloat16) return false;
  int64_t c = sizes[1];
  if (c % 16 != 0 || c10::multiply_integers(sizes) == 0) return false;
  if (residual.defined() && (!residual.is_cpu() || residual.scalar_type() != type || residual.sizes() != sizes ||
                             !residual.is_contiguous(kLast)))
    return false;
  if (!per_channel(n.weight, c) || !per_channel(n.bias, c)) return false;
  return n.mode == NormBatch || (per_channel(n.running_mean, c) && per_channel(n.running_var, c));
}

Normalization::Normalization(const at::Tensor& x, const Norm& n, Gate gate)
    : x(x), weight(n.weight), bias(n.bias), moments((is_float(x) ? take_moments<float> : take_moments<uint16_t>)(x, n)),
      gate(gate), constant(n.mode == NormRunning) {}

at::Tensor Normalization::forward(const at::Tensor& residual) const {
  return (is_float(x) ? normalized<float> : normalized<uint16_t>)(*this, residual);
}

at::Tensor Normalization::pooled(at::Tensor& taken) const {
  return (is_float(x) ? max_pooled<float> : max_pooled<uint16_t>)(*this, taken);
}

NormGradients Normalization::gradients(const at::Tensor& dy, const at::Tensor& read, bool wants_x, bool wants_residual,
                                       bool over_x, bool over_dy) const {
  return (is_float(x) ? gradients_of<float> : gradients_of<uint16_t>)(*this, dy, read, wants_x, wants_residual, over_x, over_dy);
}

}  // namespace cordon
