// Convolutions of small images as matrix products. oneDNN's convolutions are
// fast on images of many pixels and slow on few: a ResNet that ends at 1×1
// spends most of its time there.
//
// Which way a shape goes depends on the shape and the type alone, never on a
// measurement, so that two runs compute the same bits.
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <numeric>

#include "ops.h"

namespace cordon {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

struct Shape {
  int64_t n, ci, h, w;    // input
  int64_t co, oh, ow, k;  // output and kernel
  int64_t stride, padding;

  Shape(const at::Tensor& x, const at::Tensor& weight, int64_t s, int64_t p)
      : n(x.size(0)), ci(x.size(1)), h(x.size(2)), w(x.size(3)), co(weight.size(0)), k(weight.size(2)), stride(s),
        padding(p) {
    oh = (h + 2 * p - k) / s + 1;
    ow = (w + 2 * p - k) / s + 1;
  }
  int64_t pixels() const { return h * w; }
  int64_t out_pixels() const { return oh * ow; }
};

// ---- Matrix products ----
//
// bf16 products go to oneDNN through mm. fp32 ones would go to the system's
// BLAS, which may be the slow reference one; a 1×1 convolution over a made-up
// image with as many pixels as the matrix has rows always reaches oneDNN.

// rows × channels as an image with many pixels and, where the rows allow, a few samples to spread over threads.
at::Tensor as_image(const at::Tensor& rows) {
  int64_t m = rows.size(0), c = rows.size(1);
  int64_t n = m >= 1024 ? std::gcd(m, (int64_t)16) : 1;
  int64_t w = m >= 1024 ? std::gcd(m / n, (int64_t)8) : 1;
  return rows.view({n, m / n / w, w, c}).permute({0, 3, 1, 2});
}

at::Tensor as_rows(const at::Tensor& image) {
  return image.contiguous(kLast).permute({0, 2, 3, 1}).reshape({-1, image.size(1)});
}

at::Tensor as_kernel(const at::Tensor& m) { return m.view({m.size(0), m.size(1), 1, 1}); }

bool through_mm(const at::Tensor& t) {
  return t.scalar_type() != at::kFloat || !at::hasMKLDNN() || !at::globalContext().userEnabledMkldnn();
}

at::Tensor one_by_one_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, bool weight) {
  auto grads = at::convolution_backward(as_image(dy), as_image(x), as_kernel(w), at::OptionalIntArrayRef(), {1, 1},
                                        {0, 0}, {1, 1}, false, {0, 0}, 1, {!weight, weight, false});
  return weight ? std::get<1>(grads).reshape(w.sizes()) : as_rows(std::get<0>(grads));
}

// x · wᵀ: M × K by N × K.
at::Tensor times(const at::Tensor& x, const at::Tensor& w) {
  if (through_mm(x)) return at::mm(x, w.t());
  return as_rows(at::conv2d(as_image(x), as_kernel(w)));
}

// dy · w, the gradient of x. x serves for its shape.
at::Tensor times_grad_x(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w) {
  return through_mm(dy) ? at::mm(dy, w) : one_by_one_backward(dy, x, w, false);
}

// dyᵀ · x, the gradient of w. w serves for its shape.
at::Tensor times_grad_w(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w) {
  if (through_mm(dy)) return at::mm(dy.t(), x);
  // With few rows oneDNN's weight gradient is slower than two small transposes and a forward product.
  if (dy.size(0) < 512) return times(dy.t().contiguous(), x.t().contiguous());
  return one_by_one_backward(dy, x, w, true);
}

// ---- 1×1: a product over the pixels ----

at::Tensor strided_pixels(const at::Tensor& x, int64_t stride) {
  if (stride == 1) return x;
  constexpr int64_t end = std::numeric_limits<int64_t>::max();
  return x.slice(2, 0, end, stride).slice(3, 0, end, stride);
}

struct Pointwise : torch::autograd::Function<Pointwise> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    Shape s(x, weight, stride, 0);
    auto y = times(as_rows(strided_pixels(x, stride)), weight.view({s.co, s.ci}));
    return y.view({s.n, s.oh, s.ow, s.co}).permute({0, 3, 1, 2});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    Shape s(x, weight, ctx->saved_data["stride"].toInt(), 0);
    auto w = weight.view({s.co, s.ci});
    auto rows = as_rows(strided_pixels(x, s.stride)), dy = as_rows(grads[0]);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      dx = times_grad_x(dy, rows, w).view({s.n, s.oh, s.ow, s.ci}).permute({0, 3, 1, 2});
      if (s.stride != 1) {
        auto all = at::zeros(x.sizes(), x.options().memory_format(kLast));
        strided_pixels(all, s.stride).copy_(dx);
        dx = all;
      }
    }
    if (ctx->needs_input_grad(1)) dw = times_grad_w(dy, rows, w).view(weight.sizes());
    return {dx, dw, at::Tensor()};
  }
};

// ---- Kernels as large as the image: a product over whole images ----
//
// With few pixels most taps of a kernel only ever meet padding. The product is
// over (pixel, channel) on both sides, with the tap that joins two pixels.

// Calls f(input pixel, output pixel, tap) for every pair of pixels; tap is -1 where none joins them.
template <class F>
void each_pair(const Shape& s, F f) {
  for (int64_t o = 0; o < s.out_pixels(); o++)
    for (int64_t i = 0; i < s.pixels(); i++) {
      int64_t a = i / s.w - o / s.ow * s.stride + s.padding, b = i % s.w - o % s.ow * s.stride + s.padding;
      bool inside = a >= 0 && a < s.k && b >= 0 && b < s.k;
      f(i, o, inside ? a * s.k + b : -1);
    }
}

// (out pixel, co) × (in pixel, ci) from the kernel's co × tap × ci.
template <class T>
void widen(const Shape& s, const T* w, T* wide) {
  at::parallel_for(0, s.co, 16, [&](int64_t begin, int64_t end) {
    each_pair(s, [&](int64_t i, int64_t o, int64_t tap) {
      for (int64_t c = begin; c < end; c++) {
        T* to = wide + ((o * s.co + c) * s.pixels() + i) * s.ci;
        if (tap < 0)
          std::memset(to, 0, s.ci * sizeof(T));
        else
          std::memcpy(to, w + (c * s.k * s.k + tap) * s.ci, s.ci * sizeof(T));
      }
    });
  });
}

// The gradient of widen: every tap's sum over the pairs that it joins.
template <class T>
void narrow(const Shape& s, const T* wide, T* w) {
  at::parallel_for(0, s.co, 16, [&](int64_t begin, int64_t end) {
    int64_t row = s.k * s.k * s.ci;
    std::vector<float> sum(row);
    for (int64_t c = begin; c < end; c++) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      each_pair(s, [&](int64_t i, int64_t o, int64_t tap) {
        if (tap < 0) return;
        const T* from = wide + ((o * s.co + c) * s.pixels() + i) * s.ci;
        float* to = sum.data() + tap * s.ci;
        for (int64_t j = 0; j < s.ci; j++) to[j] += from[j];
      });
      for (int64_t j = 0; j < row; j++) w[c * row + j] = sum[j];
    }
  });
}

at::Tensor widened(const Shape& s, const at::Tensor& weight) {
  auto w = weight.contiguous(kLast);
  auto wide = at::empty({s.out_pixels() * s.co, s.pixels() * s.ci}, w.options());
  if (w.scalar_type() == at::kFloat)
    widen(s, w.data_ptr<float>(), wide.data_ptr<float>());
  else
    widen(s, w.data_ptr<at::BFloat16>(), wide.data_ptr<at::BFloat16>());
  return wide;
}

at::Tensor narrowed(const Shape& s, const at::Tensor& wide, const at::Tensor& like) {
  auto w = at::empty(like.sizes(), like.options().memory_format(kLast));
  if (w.scalar_type() == at::kFloat)
    narrow(s, wide.data_ptr<float>(), w.data_ptr<float>());
  else
    narrow(s, wide.data_ptr<at::BFloat16>(), w.data_ptr<at::BFloat16>());
  return w;
}

struct Dense : torch::autograd::Function<Dense> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                            int64_t padding) {
    Shape s(x, weight, stride, padding);
    auto wide = widened(s, weight);
    ctx->save_for_backward({x, weight, wide});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    auto y = times(as_rows(x).view({s.n, -1}), wide);
    return y.view({s.n, s.oh, s.ow, s.co}).permute({0, 3, 1, 2});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &wide = saved[2];
    Shape s(x, weight, ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt());
    auto rows = as_rows(x).view({s.n, -1}), dy = as_rows(grads[0]).view({s.n, -1});
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0))
      dx = times_grad_x(dy, rows, wide).view({s.n, s.h, s.w, s.ci}).permute({0, 3, 1, 2});
    if (ctx->needs_input_grad(1)) dw = narrowed(s, times_grad_w(dy, rows, wide).contiguous(), weight);
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

// ---- Strided kernels: ATen's convolution, but the weight gradient from columns ----

// (sample, output pixel) × (tap, channel): what each output pixel sees.
template <class T>
void gather(const Shape& s, const T* x, T* columns) {
  at::parallel_for(0, s.n * s.oh, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const T* image = x + r / s.oh * s.pixels() * s.ci;
      T* to = columns + r * s.ow * s.k * s.k * s.ci;
      for (int64_t q = 0; q < s.ow; q++)
        for (int64_t tap = 0; tap < s.k * s.k; tap++, to += s.ci) {
          int64_t a = r % s.oh * s.stride - s.padding + tap / s.k, b = q * s.stride - s.padding + tap % s.k;
          if (a < 0 || a >= s.h || b < 0 || b >= s.w)
            std::memset(to, 0, s.ci * sizeof(T));
          else
            std::memcpy(to, image + (a * s.w + b) * s.ci, s.ci * sizeof(T));
        }
    }
  });
}

at::Tensor columns_of(const Shape& s, const at::Tensor& image) {
  auto x = image.contiguous(kLast);
  auto columns = at::empty({s.n * s.out_pixels(), s.k * s.k * s.ci}, x.options());
  if (x.scalar_type() == at::kFloat)
    gather(s, x.data_ptr<float>(), columns.data_ptr<float>());
  else
    gather(s, x.data_ptr<at::BFloat16>(), columns.data_ptr<at::BFloat16>());
  return columns;
}

struct Strided : torch::autograd::Function<Strided> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                            int64_t padding) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    return at::conv2d(x, weight, {}, {stride, stride}, {padding, padding});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    Shape s(x, weight, ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt());
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0))
      dx = std::get<0>(at::convolution_backward(grads[0], x, weight, at::OptionalIntArrayRef(), {s.stride, s.stride},
                                                {s.padding, s.padding}, {1, 1}, false, {0, 0}, 1,
                                                {true, false, false}));
    if (ctx->needs_input_grad(1)) {
      auto like = at::empty({s.co, s.k * s.k * s.ci}, weight.options());
      dw = times_grad_w(as_rows(grads[0]), columns_of(s, x), like).contiguous();
      dw = dw.view({s.co, s.k, s.k, s.ci}).permute({0, 3, 1, 2});
    }
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

// Whether mm of bf16 matrices goes to oneDNN, which adds up in fp32, on this
// processor and at this size. Older ATen's own product adds up in bf16.
bool good_bf16_products(const Shape& s) {
#if defined(__x86_64__)
  bool vectors = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
#else
  bool vectors = false;
#endif
  return vectors && at::hasMKLDNN() && at::globalContext().userEnabledMkldnn() && s.n * s.ci * s.co > 16 * 16 * 16;
}

// What the functions above are written for. Everything else is ATen's.
bool ours(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  if (x.dim() != 4 || w.dim() != 4 || !x.is_cpu() || !w.is_cpu()) return false;
  if (x.scalar_type() != w.scalar_type()) return false;
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return false;
  if (x.numel() == 0 || w.numel() == 0 || x.size(1) != w.size(1) || w.size(2) != w.size(3)) return false;
  if (stride < 1 || padding < 0 || x.size(2) + 2 * padding < w.size(2) || x.size(3) + 2 * padding < w.size(2))
    return false;
  return x.is_contiguous(kLast) && w.is_contiguous(kLast);
}

}  // namespace

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  if (ours(x, w, stride, padding)) {
    Shape s(x, w, stride, padding);
    // In fp32 then: ATen's bf16 convolution is slow there, and on 1×1 images wrong (NaN in its weight gradient).
    if (x.scalar_type() == at::kBFloat16 && !good_bf16_products(s))
      return conv2d(x.to(at::kFloat), w.to(at::kFloat), stride, padding).to(at::kBFloat16);
    if (s.k == 1 && padding == 0) return Pointwise::apply(x, w, stride);
    if (s.pixels() <= 4) return Dense::apply(x, w, stride, padding);
    if (s.k == 3 && stride > 1 && s.ci >= 16) return Strided::apply(x, w, stride, padding);
  }
  return at::conv2d(x, w, {}, {stride, stride}, {padding, padding});
}

}  // namespace cordon
