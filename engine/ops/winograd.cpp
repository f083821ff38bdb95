// Winograd's F(2×2, 3×3). The image is cut into tiles of 2×2 output pixels, each
// from a patch of 4×4 input pixels:
//
//   y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
//
// Over all channels ⊙ is 16 matrix products: U[k] of the kernels g, V[k] of the
// patches d, M[k] = V[k] · U[k]. V and M are four times the images, so they are
// made for a block of tiles at a time and stay in the cache.
//
// Tiles of 4×4 from patches of 6×6 are 49 products, for 16 output pixels, where there are
// enough of them. An image of 2×2 pixels is one tile and has no neighbours: 9
// products where its taps inside the image are 16.
#include "winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "heap.h"
#include "isa.h"
#include "product.h"
#include "share.h"

namespace cordon {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

// ---- Kernels, one set for every kind of processor ----

using Transform = void (*)(const float* const* from, float* const* to, int64_t channels);

struct Method {
  int products;  // elements of a transformed tile, each a matrix over tiles and channels
  int tile;      // height and width of the output pixels that are computed together
  int patch;     // and of the input pixels that they are computed from
  Transform input, output, output_gradient, weight, weight_gradient;
};

#define CORDON_KERNELS basic
#define CORDON_WIDTH 4
#include "winograd_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CORDON_X86_KERNELS
#pragma GCC push_options
#pragma GCC target("avx2")
#define CORDON_KERNELS avx2
#define CORDON_WIDTH 8
#include "winograd_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
#define CORDON_KERNELS avx512
#define CORDON_WIDTH 16
#include "winograd_kernels.inc"
#undef CORDON_KERNELS
#undef CORDON_WIDTH
#pragma GCC pop_options
#endif

int64_t tiles_of(int64_t h, int64_t w, int64_t size) { return (h + size - 1) / size * ((w + size - 1) / size); }

// What n images of this size are computed by. 49 kernels have to meet enough tiles to be worth
// making and reading.
const Method& method_of(int64_t n, int64_t h, int64_t w) {
  constexpr int64_t kEnough = 128;
  bool whole = h == 2 && w == 2;
  bool wide = 49 * tiles_of(h, w, 4) < 16 * tiles_of(h, w, 2) && n * tiles_of(h, w, 4) >= kEnough;
#ifdef CORDON_X86_KERNELS
  if (isa() >= Isa::kAvx512) return whole ? avx512::whole : wide ? avx512::wide : avx512::patches;
  if (isa() >= Isa::kAvx2) return whole ? avx2::whole : wide ? avx2::wide : avx2::patches;
#endif
  return whole ? basic::whole : wide ? basic::wide : basic::patches;
}

// ---- Tiles ----

constexpr int kMost = 49;  // products of any method

// The tiles of images; the last of a row or column may reach outside.
struct Tiles {
  int64_t n, h, w, down, across, count;
  const Method& method;

  explicit Tiles(const at::Tensor& image)
      : n(image.size(0)), h(image.size(2)), w(image.size(3)), method(method_of(n, h, w)) {
    down = (h + method.tile - 1) / method.tile;
    across = (w + method.tile - 1) / method.tile;
    count = n * down * across;
  }

  // Where the size × size pixels around or in a tile are; `outside` for those that are not in the image.
  template <class P>
  void pixels(P images, int64_t channels, int64_t tile, int size, P outside, P* where) const {
    int64_t border = (size - method.tile) / 2;
    int64_t left = tile % across * method.tile - border, top = tile / across % down * method.tile - border;
    P image = images + tile / (across * down) * h * w * channels;
    for (int64_t a = top; a < top + size; a++)
      for (int64_t b = left; b < left + size; b++)
        *where++ = a < 0 || a >= h || b < 0 || b >= w ? outside : image + (a * w + b) * channels;
  }
};

// Where the elements of row i of products × count × channels are: of a transformed tile or kernel.
template <class P>
void elements(P all, int64_t products, int64_t count, int64_t channels, int64_t i, P* where) {
  for (int64_t k = 0; k < products; k++) where[k] = all + (k * count + i) * channels;
}

constexpr int64_t kGrain = 16;  // tiles that are worth a thread

// Transforms the size × size pixels of `out`'s tiles, which begin at `first`.
void take_apart(const Tiles& tiles, const at::Tensor& image, int size, Transform transform, int64_t first, const Matrix& out) {
  int64_t count = out.rows, channels = out.columns;
  const float* in = image.data_ptr<float>();
  float* to = static_cast<float*>(out.data);
  const std::vector<float> zeros(channels);
  share_out(count, kGrain, [&](int64_t begin, int64_t end) {
    const float* from[kMost];
    float* where[kMost];
    for (int64_t t = begin; t < end; t++) {
      tiles.pixels(in, channels, first + t, size, zeros.data(), from);
      elements(to, out.batch, count, channels, t, where);
      transform(from, where, channels);
    }
  });
}

// The epilogue of a pixel's channels.
CORDON_VECTORS void finish(float* y, const float* bias, const float* residual, int64_t channels, bool relu) {
  for (int64_t c = 0; c < channels; c++) {
    float v = y[c];
    if (bias) v += bias[c];
    if (residual) v += residual[c];
    y[c] = relu && v <= 0 ? 0 : v;
  }
}

// Transforms products to the pixels of the tiles from `first` on.
void put_together(const Tiles& tiles, const Matrix& m, int64_t first, const at::Tensor& image, const Epilogue& e) {
  int64_t count = m.rows, channels = m.columns;
  const float* in = static_cast<const float*>(m.data);
  float* out = image.data_ptr<float>();
  auto transform = tiles.method.output;
  int size = tiles.method.tile;
  const float* bias = e.bias.defined() ? e.bias.data_ptr<float>() : nullptr;
  const float* residual = e.residual.defined() ? e.residual.data_ptr<float>() : nullptr;
  share_out(count, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> nowhere(channels);
    const float* from[kMost];
    float* to[16];
    for (int64_t t = begin; t < end; t++) {
      elements(in, m.batch, count, channels, t, from);
      tiles.pixels(out, channels, first + t, size, nowhere.data(), to);
      transform(from, to, channels);
      if (!bias && !residual) continue;
      for (int i = 0; i < size * size; i++)
        if (float* y = to[i]; y != nowhere.data())
          finish(y, bias, residual ? residual + (y - out) : nullptr, channels, e.relu);
    }
  });
}

// ---- Blocks of tiles ----

// V and M of a block are to stay in the cache that the cores share. U of many
// channels does not, and a block has to be worth reading it.
constexpr int64_t kBlockBytes = 4 << 20, kLeastTiles = 256;

// Calls f(first tile, V, M) for one block after the other, with memory for V and M.
template <class F>
void each_block(const Tiles& tiles, int64_t ci, int64_t co, F f) {
  int64_t products = tiles.method.products, fitting = kBlockBytes / (products * (ci + co) * (int64_t)sizeof(float));
  // Odd, for else the matrices lie a multiple of a page apart and share few sets of the cache.
  int64_t height = std::min(tiles.count, std::max(fitting, kLeastTiles) | 1);
  auto v = scratch({products * height * ci}, at::kFloat), m = scratch({products * height * co}, at::kFloat);
  for (int64_t first = 0; first < tiles.count; first += height) {
    int64_t size = std::min(height, tiles.count - first);
    f(first, Matrix(v, size, ci, products), Matrix(m, size, co, products));
  }
}

// ---- The convolution and its gradients ----

// U (products × co × ci) of the kernels, or of the kernels turned by 180°: scratch.
at::Tensor transformed(const Method& method, const at::Tensor& weight, bool turned) {
  int64_t co = weight.size(0), ci = weight.size(1);
  auto u = scratch({method.products, co, ci}, at::kFloat);
  const float* in = weight.data_ptr<float>();
  float* out = u.data_ptr<float>();
  at::parallel_for(0, co, 4, [&](int64_t begin, int64_t end) {
    const float* from[9];
    float* to[kMost];
    for (int64_t o = begin; o < end; o++) {
      for (int64_t tap = 0; tap < 9; tap++) from[turned ? 8 - tap : tap] = in + (o * 9 + tap) * ci;
      elements(out, method.products, co, ci, o, to);
      method.weight(from, to, ci);
    }
  });
  return u;
}

// The gradient of transformed (not turned).
at::Tensor transformed_back(const Method& method, const at::Tensor& u) {
  int64_t co = u.size(1), ci = u.size(2);
  auto weight = at::empty({co, ci, 3, 3}, u.options().memory_format(kLast));
  const float* in = u.data_ptr<float>();
  float* out = weight.data_ptr<float>();
  at::parallel_for(0, co, 4, [&](int64_t begin, int64_t end) {
    const float* from[kMost];
    float* to[9];
    for (int64_t o = begin; o < end; o++) {
      elements(in, method.products, co, ci, o, from);
      for (int64_t tap = 0; tap < 9; tap++) to[tap] = out + (o * 9 + tap) * ci;
      method.weight_gradient(from, to, ci);
    }
  });
  return weight;
}

// x by kernels to co channels; multiply makes M of a block's V.
template <class F>
at::Tensor convolve(const Tiles& tiles, const at::Tensor& x, int64_t co, F multiply, const Epilogue& e = {}) {
  auto y = at::empty({tiles.n, co, tiles.h, tiles.w}, x.options().memory_format(kLast));
  each_block(tiles, x.size(1), co, [&](int64_t first, const Matrix& v, const Matrix& m) {
    take_apart(tiles, x, tiles.method.patch, tiles.method.input, first, v);
    multiply(v, m);
    put_together(tiles, m, first, y, e);
  });
  return y;
}

// The gradient of the kernels, added up block by block.
at::Tensor kernel_gradient(const Tiles& tiles, const at::Tensor& x, const at::Tensor& dy) {
  int64_t ci = x.size(1), co = dy.size(1);
  auto du = scratch({tiles.method.products, co, ci}, at::kFloat);
  Matrix sums(du, co, ci, tiles.method.products);
  each_block(tiles, ci, co, [&](int64_t first, const Matrix& v, const Matrix& dm) {
    take_apart(tiles, x, tiles.method.patch, tiles.method.input, first, v);
    take_apart(tiles, dy, tiles.method.tile, tiles.method.output_gradient, first, dm);
    product(dm.t(), v, sums, first > 0);
  });
  return transformed_back(tiles.method, du);
}

}  // namespace

// Timed against oneDNN 2.6's direct convolution on two cores of a Zen 4: at
// 16 channels the transforms eat the gain, below 32 tiles reading U does. Odd
// sizes compute pixels outside: 7×7 (58 % of the multiplications) still gains,
// 5×5 (64 %) does not.
bool winograd_pays(int64_t n, int64_t ci, int64_t h, int64_t w, int64_t co) {
  int64_t tiles = tiles_of(h, w, 2);
  return ci % 16 == 0 && co % 16 == 0 && ci >= 32 && co >= 32 && n * tiles >= 32 &&
         16 * tiles * 10 <= 9 * h * w * 6;
}

at::Tensor winograd(const at::Tensor& x, const at::Tensor& w) {
  Tiles tiles(x);
  auto u = transformed(tiles.method, w, false);
  auto kernels = Matrix(u, w.size(0), w.size(1), tiles.method.products).t();
  return convolve(tiles, x, w.size(0), [&](const Matrix& v, const Matrix& m) { product(v, kernels, m); });
}

at::Tensor winograd_input_gradient(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& sum) {
  Tiles tiles(dy);
  auto u = transformed(tiles.method, w, true);
  Matrix kernels(u, w.size(0), w.size(1), tiles.method.products);
  return convolve(tiles, dy, w.size(1), [&](const Matrix& v, const Matrix& m) { product(v, kernels, m); }, {{}, sum});
}

at::Tensor winograd_kernel_gradient(const at::Tensor& x, const at::Tensor& dy) { return kernel_gradient(Tiles(x), x, dy); }

int winograd_products(const Shape& s) { return method_of(s.n, s.h, s.w).products; }

Packed winograd_kernels(const Shape& s, const at::Tensor& w) {
  const auto& method = method_of(s.n, s.h, s.w);
  auto u = transformed(method, w, false);
  return {u, Matrix(u, w.size(0), w.size(1), method.products).t()};
}

at::Tensor winograd(const at::Tensor& x, Packed& kernels, const Epilogue& e) {
  return convolve(Tiles(x), x, e.bias.numel(), [&](const Matrix& v, const Matrix& m) { kernels.product(v, m, {}); }, e);
}

}  // namespace cordon
