// Convolutions of small images as matrix products. oneDNN's convolutions are
// fast on images of many pixels and slow on few: a ResNet that ends at 1×1
// spends most of its time there.
#include "conv.h"

#include <ATen/Parallel.h>

#include <cstring>
#include <vector>

#include "amx.h"
#include "columns.h"
#include "heap.h"
#include "isa.h"
#include "product.h"
#include "winograd.h"

namespace cordon {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

namespace {

constexpr int64_t kMostColumns = 128 << 20;  // bytes: columns are many times a large image

template <class From, class To>
CORDON_VECTORS void convert(const From* from, To* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

template <class T>
CORDON_VECTORS void add(const T* from, T* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

// The sum of some of the rows, of n values each. The first is copied: what is written
// may be larger than the caches.
template <class T>
void sum_of(const T* in, const std::vector<int64_t>& rows, int64_t n, T* to) {
  if (rows.empty()) std::memset(to, 0, n * sizeof(T));
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
          convert(kernel + (r % s.co * s.taps() + tap) * s.ci, to, s.ci);
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

at::Tensor new_image(int64_t n, int64_t c, int64_t h, int64_t w, at::ScalarType type) {
  return at::empty({n, c, h, w}, at::TensorOptions().dtype(type).memory_format(kLast));
}

at::Tensor met(const Shape& s, const at::Tensor& x) { return s.k == 1 && s.stride == 1 ? x : columns_of(s, x, s.taps() * s.ci); }

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

Way way_of(const Shape& s, at::ScalarType type, bool x_grad) {
  if (type == at::kBFloat16 && amx_pays(s, x_grad)) return Way::kTiles;
  if (s.k == 1 && s.padding == 0) return Way::kPointwise;
  if (type == at::kFloat && winograd_pays(s)) return Way::kWinograd;
  if (s.pixels() <= 4) return Way::kDense;
  if (s.k == 3 && s.stride > 1 && s.ci >= 16 &&
      s.n * s.out_pixels() * 9 * s.ci * (int64_t)at::elementSize(type) <= kMostColumns)
    return Way::kColumns;
  return Way::kAten;
}

namespace {

// The gradient of widened: every tap's sum over the pairs of pixels that it joins.
void narrow(const Shape& s, const at::Tensor& wide, const at::Tensor& kernel) {
  std::vector<std::vector<int64_t>> joined(s.taps());
  for (int64_t o = 0; o < s.out_pixels(); o++)
    for (int64_t i = 0; i < s.pixels(); i++)
      if (int64_t tap = s.tap(i, o); tap >= 0) joined[tap].push_back(o * s.co * s.pixels() + i);
  const float* in = wide.data_ptr<float>();
  float* out = kernel.data_ptr<float>();
  at::parallel_for(0, s.co, 16, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++)
      for (int64_t tap = 0; tap < s.taps(); tap++)
        sum_of(in + c * s.pixels() * s.ci, joined[tap], s.ci, out + (c * s.taps() + tap) * s.ci);
  });
}

// The gradient of columns_of: every input pixel's sum over the output pixels that see it.
template <class T>
void spread(const Shape& s, const T* columns, T* image) {
  std::vector<std::vector<int64_t>> seen(s.pixels());
  for (int64_t i = 0; i < s.pixels(); i++)
    for (int64_t o = 0; o < s.out_pixels(); o++)
      if (int64_t tap = s.tap(i, o); tap >= 0) seen[i].push_back(o * s.taps() + tap);
  at::parallel_for(0, s.n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for (int64_t i = 0; i < s.pixels(); i++)
        sum_of(columns + n * s.out_pixels() * s.taps() * s.ci, seen[i], s.ci, image + (n * s.pixels() + i) * s.ci);
  });
}

at::Tensor image_of(const Shape& s, const at::Tensor& columns) {
  auto image = new_image(s.n, s.ci, s.h, s.w, columns.scalar_type());
  if (columns.scalar_type() == at::kFloat)
    spread(s, columns.data_ptr<float>(), image.data_ptr<float>());
  else
    spread(s, columns.data_ptr<at::BFloat16>(), image.data_ptr<at::BFloat16>());
  return image;
}

at::Tensor aten_gradient(const Convolution& c, const at::Tensor& dy, bool of_input) {
  const auto& s = c.shape;
  auto both = at::convolution_backward(dy, c.x, c.kernel, at::OptionalIntArrayRef(), {s.stride, s.stride}, {s.padding, s.padding},
                                       {1, 1}, false, {0, 0}, 1, {of_input, !of_input, false});
  return of_input ? std::get<0>(both) : std::get<1>(both).to(at::kFloat);
}

at::Tensor kernel_for(const Shape& s, Way way, const at::Tensor& w, at::ScalarType type) {
  switch (way) {
    case Way::kDense: return widened(s, w, type);
    case Way::kWinograd:
    case Way::kTiles: return w;
    default: return w.to(type);
  }
}

}  // namespace

Convolution::Convolution(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding)
    : shape(x, w, stride, padding), way(way_of(shape, x.scalar_type(), x.requires_grad())), x(x),
      kernel(kernel_for(shape, way, w, x.scalar_type())) {}

at::Tensor Convolution::forward() const {
  const auto& s = shape;
  if (way == Way::kWinograd) return winograd(s, x, kernel);
  if (way == Way::kTiles) return amx_forward(s, x, kernel);
  if (way == Way::kAten || (way == Way::kColumns && !columns_pay(s, x.scalar_type())))
    return at::conv2d(x, kernel, {}, {s.stride, s.stride}, {s.padding, s.padding}).contiguous(kLast);
  auto y = new_image(s.n, s.co, s.oh, s.ow, x.scalar_type());
  if (way == Way::kDense) {
    int64_t in = s.pixels() * s.ci, out = s.out_pixels() * s.co;
    product({x, s.n, in}, Matrix(kernel, out, in).t(), {y, s.n, out});
  } else {
    int64_t rows = s.n * s.out_pixels(), in = s.taps() * s.ci;
    product({met(s, x), rows, in}, Matrix(kernel, s.co, in).t(), {y, rows, s.co});
  }
  return y;
}

at::Tensor Convolution::input_gradient(const at::Tensor& dy, const at::Tensor& sum) const {
  const auto& s = shape;
  auto type = x.scalar_type();
  auto added = [&](const at::Tensor& dx) { return sum.defined() ? at::Tensor(sum).add_(dx) : dx; };
  if (way == Way::kWinograd) return winograd_input_gradient(s, dy, kernel, sum);
  if (way == Way::kTiles) return added(amx_input_gradient(s, dy, kernel));
  if (way == Way::kAten || (way == Way::kColumns && (type != at::kFloat || s.pixels() > 64)))
    return added(aten_gradient(*this, dy, true));
  bool dense = way == Way::kDense;
  int64_t rows = dense ? s.n : s.n * s.out_pixels();
  int64_t in = dense ? s.pixels() * s.ci : s.taps() * s.ci, out = dense ? s.out_pixels() * s.co : s.co;
  if (dense || (s.k == 1 && s.stride == 1)) {
    auto dx = sum.defined() ? sum : new_image(s.n, s.ci, s.h, s.w, type);
    product({dy, rows, out}, {kernel, out, in}, {dx, rows, in}, sum.defined());
    return dx;
  }
  auto columns = scratch({rows, in}, type);
  product({dy, rows, out}, {kernel, out, in}, {columns, rows, in});
  return added(image_of(s, columns));
}

at::Tensor Convolution::kernel_gradient(const at::Tensor& dy) const {
  const auto& s = shape;
  if (way == Way::kWinograd) return winograd_kernel_gradient(s, x, dy);
  if (way == Way::kTiles) return amx_kernel_gradient(s, x, dy);
  if (way == Way::kAten) return aten_gradient(*this, dy, false);
  auto dw = new_image(s.co, s.ci, s.k, s.k, at::kFloat);
  if (way == Way::kDense) {
    int64_t in = s.pixels() * s.ci, out = s.out_pixels() * s.co;
    auto wide = scratch({out, in}, at::kFloat);
    product(Matrix(dy, s.n, out).t(), {x, s.n, in}, {wide, out, in});
    narrow(s, wide, dw);
    return dw;
  }
  int64_t rows = s.n * s.out_pixels(), in = s.taps() * s.ci;
  product(Matrix(dy, rows, s.co).t(), {met(s, x), rows, in}, {dw, s.co, in});
  return dw;
}

}  // namespace cordon
