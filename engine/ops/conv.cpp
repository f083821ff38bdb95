// Convolutions of small images as matrix products. oneDNN's convolutions are
// fast on images of many pixels and slow on few: a ResNet that ends at 1×1
// spends most of its time there.
#include "conv.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <limits>
#include <vector>

#include "amx.h"
#include "columns.h"
#include "isa.h"
#include "ops.h"
#include "product.h"
#include "winograd.h"

namespace cordon {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

namespace {

constexpr int64_t kMostColumns = 128 << 20;  // bytes: columns are many times a large image

template <class T>
CORDON_VECTORS void convert(const float* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

CORDON_VECTORS void add(const float* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

// The sum of some of the rows, of n values each. The first is copied: what is written
// may be larger than the caches.
void sum_of(const float* in, const std::vector<int64_t>& rows, int64_t n, float* to) {
  if (rows.empty()) std::memset(to, 0, n * sizeof(float));
  for (size_t r = 0; r < rows.size(); r++) r == 0 ? convert(in + rows[r] * n, to, n) : add(in + rows[r] * n, to, n);
}

// From the kernel's co × tap × ci.
template <class T>
void widen(const Shape& s, const float* kernel, T* wide) {
  at::parallel_for(0, s.out_pixels() * s.co, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      for (int64_t i = 0; i < s.pixels(); i++) {
        T* to = wide + (r * s.pixels() + i) * s.ci;
        int64_t tap = s.tap(i, r / s.co);
        if (tap < 0)
          std::memset(to, 0, s.ci * sizeof(T));
        else
          convert(kernel + (r % s.co * s.k * s.k + tap) * s.ci, to, s.ci);
      }
  });
}

}  // namespace

at::Tensor widened(const Shape& s, const at::Tensor& weight, at::ScalarType type) {
  auto kernel = weight.contiguous(kLast);
  auto wide = at::empty({s.out_pixels() * s.co, s.pixels() * s.ci}, kernel.options().dtype(type));
  if (type == at::kFloat)
    widen(s, kernel.data_ptr<float>(), wide.data_ptr<float>());
  else
    widen(s, kernel.data_ptr<float>(), wide.data_ptr<at::BFloat16>());
  return wide;
}

at::Tensor as_rows(const at::Tensor& image) {
  return image.contiguous(kLast).permute({0, 2, 3, 1}).reshape({-1, image.size(1)});
}

at::Tensor as_image(const at::Tensor& rows, int64_t n, int64_t h, int64_t w, int64_t c) {
  return rows.view({n, h, w, c}).permute({0, 3, 1, 2});
}

at::Tensor strided_pixels(const at::Tensor& x, int64_t stride) {
  if (stride == 1) return x;
  constexpr int64_t end = std::numeric_limits<int64_t>::max();
  return x.slice(2, 0, end, stride).slice(3, 0, end, stride);
}

bool columns_pay(const Shape& s, at::ScalarType type) { return type == at::kFloat && s.pixels() <= 16; }

bool in_our_layout(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  if (!have_products() || x.dim() != 4 || w.dim() != 4 || !x.is_cpu() || !w.is_cpu()) return false;
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return false;
  if (w.scalar_type() != at::kFloat) return false;
  if (x.numel() == 0 || w.numel() == 0 || x.size(1) != w.size(1) || w.size(2) != w.size(3)) return false;
  if (stride < 1 || padding < 0 || x.size(2) + 2 * padding < w.size(2) || x.size(3) + 2 * padding < w.size(2))
    return false;
  return x.is_contiguous(kLast) && w.is_contiguous(kLast);
}

Way way_of(const Shape& s, at::ScalarType type) {
  if (s.k == 1 && s.padding == 0) return Way::kPointwise;
  if (s.k == 3 && s.stride == 1 && s.padding == 1 && type == at::kFloat && winograd_pays(s.n, s.ci, s.h, s.w, s.co))
    return Way::kWinograd;
  if (s.pixels() <= 4) return Way::kDense;
  if (s.k == 3 && s.stride > 1 && s.ci >= 16 &&
      s.n * s.out_pixels() * 9 * s.ci * (int64_t)at::elementSize(type) <= kMostColumns)
    return Way::kColumns;
  return Way::kAten;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// ---- 1×1: a product over the pixels ----

struct Pointwise : torch::autograd::Function<Pointwise> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride) {
    Shape s(x, weight, stride, 0);
    auto w = weight.view({s.co, s.ci}).to(x.scalar_type());
    ctx->save_for_backward({x, w});
    ctx->saved_data["stride"] = stride;
    auto y = product(as_rows(strided_pixels(x, stride)), w.t(), x.scalar_type());
    return as_image(y, s.n, s.oh, s.ow, s.co);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &w = saved[1];
    Shape s(x, w.view({w.size(0), w.size(1), 1, 1}), ctx->saved_data["stride"].toInt(), 0);
    auto dy = as_rows(grads[0]);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      dx = as_image(product(dy, w, w.scalar_type()), s.n, s.oh, s.ow, s.ci);
      if (s.stride != 1) {
        auto all = at::empty(x.sizes(), x.options().memory_format(kLast)).zero_();
        strided_pixels(all, s.stride).copy_(dx);
        dx = all;
      }
    }
    if (ctx->needs_input_grad(1))
      dw = product(dy.t(), as_rows(strided_pixels(x, s.stride)), at::kFloat).view({s.co, s.ci, 1, 1});
    return {dx, dw, at::Tensor()};
  }
};

// ---- Kernels as large as the image: a product over whole images ----
//
// With few pixels most taps of a kernel only ever meet padding. The product is
// over (pixel, channel) on both sides, with the tap that joins two pixels.

// The gradient of widened: every tap's sum over the pairs of pixels that it joins.
at::Tensor narrowed(const Shape& s, const at::Tensor& wide, const at::Tensor& like) {
  std::vector<std::vector<int64_t>> joined(s.k * s.k);
  for (int64_t o = 0; o < s.out_pixels(); o++)
    for (int64_t i = 0; i < s.pixels(); i++)
      if (int64_t tap = s.tap(i, o); tap >= 0) joined[tap].push_back(o * s.co * s.pixels() + i);
  auto kernel = at::empty(like.sizes(), like.options().memory_format(kLast));
  const float* in = wide.data_ptr<float>();
  float* out = kernel.data_ptr<float>();
  at::parallel_for(0, s.co, 16, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++)
      for (int64_t tap = 0; tap < s.k * s.k; tap++)
        sum_of(in + c * s.pixels() * s.ci, joined[tap], s.ci, out + (c * s.k * s.k + tap) * s.ci);
  });
  return kernel;
}

struct Dense : torch::autograd::Function<Dense> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                            int64_t padding) {
    Shape s(x, weight, stride, padding);
    auto wide = widened(s, weight, x.scalar_type());
    ctx->save_for_backward({x, weight, wide});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    auto y = product(as_rows(x).view({s.n, -1}), wide.t(), x.scalar_type());
    return as_image(y, s.n, s.oh, s.ow, s.co);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &wide = saved[2];
    Shape s(x, weight, ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt());
    auto dy = as_rows(grads[0]).view({s.n, -1});
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) dx = as_image(product(dy, wide, wide.scalar_type()), s.n, s.h, s.w, s.ci);
    if (ctx->needs_input_grad(1))
      dw = narrowed(s, product(dy.t(), as_rows(x).view({s.n, -1}), at::kFloat), weight);
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

// ---- Strided kernels: products of columns ----
//
// In fp32 on few pixels, the input's gradient on a few more; else only the weight
// gradient is theirs, the rest is ATen's.

// The gradient of columns_of: every input pixel's sum over the output pixels that see it.
at::Tensor image_of(const Shape& s, const at::Tensor& columns) {
  std::vector<std::vector<int64_t>> seen(s.pixels());
  for (int64_t i = 0; i < s.pixels(); i++)
    for (int64_t o = 0; o < s.out_pixels(); o++)
      if (int64_t tap = s.tap(i, o); tap >= 0) seen[i].push_back(o * s.k * s.k + tap);
  auto image = at::empty({s.n * s.pixels(), s.ci}, columns.options());
  const float* in = columns.data_ptr<float>();
  float* out = image.data_ptr<float>();
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for (int64_t i = 0; i < s.pixels(); i++)
        sum_of(in + n * s.out_pixels() * s.k * s.k * s.ci, seen[i], s.ci, out + (n * s.pixels() + i) * s.ci);
  });
  return as_image(image, s.n, s.h, s.w, s.ci);
}

struct Strided : torch::autograd::Function<Strided> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                            int64_t padding) {
    Shape s(x, weight, stride, padding);
    auto w = weight.to(x.scalar_type());
    ctx->save_for_backward({x, w});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    if (!columns_pay(s, x.scalar_type()))
      return at::conv2d(x, w, {}, {stride, stride}, {padding, padding});
    auto y = product(columns_of(s, x, s.k * s.k * s.ci), as_rows(w).view({s.co, -1}).t(), x.scalar_type());
    return as_image(y, s.n, s.oh, s.ow, s.co);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &w = saved[1];
    Shape s(x, w, ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt());
    auto dy = as_rows(grads[0]);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0) && x.scalar_type() == at::kFloat && s.pixels() <= 64)
      dx = image_of(s, product(dy, as_rows(w).view({s.co, -1}), at::kFloat));
    else if (ctx->needs_input_grad(0))
      dx = std::get<0>(at::convolution_backward(grads[0], x, w, at::OptionalIntArrayRef(), {s.stride, s.stride},
                                                {s.padding, s.padding}, {1, 1}, false, {0, 0}, 1,
                                                {true, false, false}));
    if (ctx->needs_input_grad(1)) {
      dw = product(dy.t(), columns_of(s, x, s.k * s.k * s.ci), at::kFloat);
      dw = as_image(dw, s.co, s.k, s.k, s.ci);
    }
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor conv2d(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding) {
  auto type = x.scalar_type();
  if (in_our_layout(x, w, stride, padding)) {
    Shape s(x, w, stride, padding);
    // In fp32 on processors without bf16 vectors: ATen's bf16 is slow there, and on 1×1 images wrong (NaN).
    if (type == at::kBFloat16 && !fast_bf16_products())
      return conv2d(x.to(at::kFloat), w, stride, padding).to(at::kBFloat16);
    if (type == at::kBFloat16 && amx_pays(s, x.requires_grad())) return amx_conv2d(x, w, stride, padding);
    switch (way_of(s, type)) {
      case Way::kPointwise: return Pointwise::apply(x, w, stride);
      case Way::kWinograd: return winograd(x, w);
      case Way::kDense: return Dense::apply(x, w, stride, padding);
      case Way::kColumns: return Strided::apply(x, w, stride, padding);
      case Way::kAten: break;
    }
  }
  return at::conv2d(x, w.to(type), {}, {stride, stride}, {padding, padding});
}

}  // namespace cordon
