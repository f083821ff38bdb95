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
//
// With a stride of 2 an output pixel takes one tap from the even pixels of a row and two from
// the odd ones, where two neighbours share theirs: 5 products for the two of them, 25 for 2×2.
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

// Squares of pixels in an image, one for every tile.
struct Squares {
  int size, step;  // height and width; from one to the next
  int before;      // pixels that the first begins outside the image
};

struct Method {
  int products;   // elements of a transformed tile, each a matrix over tiles and channels
  Squares tile;   // the output pixels that are computed together
  Squares patch;  // and the input pixels that they are computed from
  Transform input, output, output_gradient, weight, weight_gradient;
};

struct Methods {
  Method patches, wide, whole;  // with a stride of 1
  Method halving, doubling;     // with a stride of 2, and its input's gradient
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

// Many kernels have to meet enough tiles to be worth making and reading.
constexpr int64_t kEnough = 128;

const Methods& methods() {
#ifdef CORDON_X86_KERNELS
  if (isa() >= Isa::kAvx512) return avx512::methods;
  if (isa() >= Isa::kAvx2) return avx2::methods;
#endif
  return basic::methods;
}

const Method& method_of(const Shape& s) {
  if (s.stride == 2) return methods().halving;
  if (s.h == 2 && s.w == 2) return methods().whole;
  int64_t tiles = tiles_of(s.h, s.w, 4);
  return 49 * tiles < 16 * tiles_of(s.h, s.w, 2) && s.n * tiles >= kEnough ? methods().wide : methods().patches;
}

const Method& backward_method_of(const Shape& s) { return s.stride == 2 ? methods().doubling : method_of(s); }

// ---- Tiles ----

constexpr int kMost = 49;  // products of any method

// The tiles of n images of h × w output pixels; the last of a row or column may reach outside.
struct Tiles {
  const Method& method;
  int64_t n, h, w, down, across, count;

  Tiles(const Method& method, int64_t n, int64_t h, int64_t w) : method(method), n(n), h(h), w(w) {
    down = (h + method.tile.size - 1) / method.tile.size;
    across = (w + method.tile.size - 1) / method.tile.size;
    count = n * down * across;
  }

  // Where the pixels of a tile's square are in images of height × width; `outside` for those that are not in the image.
  template <class P>
  void pixels(P images, int64_t height, int64_t width, int64_t channels, const Squares& s, int64_t tile, P outside, P* where) const {
    int64_t left = tile % across * s.step - s.before, top = tile / across % down * s.step - s.before;
    P image = images + tile / (across * down) * height * width * channels;
    for (int64_t a = top; a < top + s.size; a++)
      for (int64_t b = left; b < left + s.size; b++)
        *where++ = a < 0 || a >= height || b < 0 || b >= width ? outside : image + (a * width + b) * channels;
  }
};

// Where the elements of row i of products × count × channels are: of a transformed tile or kernel.
template <class P>
void elements(P all, int64_t products, int64_t count, int64_t channels, int64_t i, P* where) {
  for (int64_t k = 0; k < products; k++) where[k] = all + (k * count + i) * channels;
}

constexpr int64_t kGrain = 16;  // tiles that are worth a thread

// Transforms the squares of `out`'s tiles, which begin at `first`.
void take_apart(const Tiles& tiles, const at::Tensor& image, const Squares& squares, Transform transform, int64_t first,
                const Matrix& out) {
  int64_t count = out.rows, channels = out.columns, height = image.size(2), width = image.size(3);
  const float* in = image.data_ptr<float>();
  float* to = static_cast<float*>(out.data);
  const std::vector<float> zeros(channels);
  share_out(count, kGrain, [&](int64_t begin, int64_t end) {
    const float* from[kMost];
    float* where[kMost];
    for (int64_t t = begin; t < end; t++) {
      tiles.pixels(in, height, width, channels, squares, first + t, zeros.data(), from);
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
  const auto& method = tiles.method;
  int size = method.tile.size;
  const float* bias = e.bias.defined() ? e.bias.data_ptr<float>() : nullptr;
  const float* residual = e.residual.defined() ? e.residual.data_ptr<float>() : nullptr;
  share_out(count, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> nowhere(channels);
    const float* from[kMost];
    float* to[16];
    for (int64_t t = begin; t < end; t++) {
      elements(in, m.batch, count, channels, t, from);
      tiles.pixels(out, tiles.h, tiles.w, channels, method.tile, first + t, nowhere.data(), to);
      method.output(from, to, channels);
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

Matrix kernels_of(const at::Tensor& u) { return {u, u.size(1), u.size(2), u.size(0)}; }

}  // namespace

// Timed against oneDNN 2.6's direct convolution on two cores of a Zen 4: at
// 16 channels the transforms eat the gain, below 32 tiles reading U does. Odd
// sizes compute pixels outside: 7×7 (58 % of the multiplications) still gains,
// 5×5 (64 %) does not.
bool winograd_pays(const Shape& s) {
  if (s.k != 3 || s.padding != 1 || s.stride > 2) return false;
  if (s.ci % 16 != 0 || s.co % 16 != 0 || s.ci < 32 || s.co < 32) return false;
  int64_t tiles = tiles_of(s.oh, s.ow, 2), products = 9 * s.out_pixels();
  if (s.stride == 2) return s.n * tiles >= kEnough && 25 * tiles * 10 <= products * 7;
  return s.n * tiles >= 32 && 16 * tiles * 10 <= products * 6;
}

at::Tensor winograd(const Shape& s, const at::Tensor& x, const at::Tensor& w) {
  Tiles tiles(method_of(s), s.n, s.oh, s.ow);
  auto u = transformed(tiles.method, w, false);
  return convolve(tiles, x, s.co, [&](const Matrix& v, const Matrix& m) { product(v, kernels_of(u).t(), m); });
}

at::Tensor winograd_input_gradient(const Shape& s, const at::Tensor& dy, const at::Tensor& w, const at::Tensor& sum) {
  Tiles tiles(backward_method_of(s), s.n, s.h, s.w);
  auto u = transformed(tiles.method, w, true);
  return convolve(tiles, dy, s.ci, [&](const Matrix& v, const Matrix& m) { product(v, kernels_of(u), m); }, {{}, sum});
}

// Added up block by block.
at::Tensor winograd_kernel_gradient(const Shape& s, const at::Tensor& x, const at::Tensor& dy) {
  Tiles tiles(method_of(s), s.n, s.oh, s.ow);
  const auto& method = tiles.method;
  auto du = scratch({method.products, s.co, s.ci}, at::kFloat);
  each_block(tiles, s.ci, s.co, [&](int64_t first, const Matrix& v, const Matrix& dm) {
    take_apart(tiles, x, method.patch, method.input, first, v);
    take_apart(tiles, dy, method.tile, method.output_gradient, first, dm);
    product(dm.t(), v, kernels_of(du), first > 0);
  });
  return transformed_back(method, du);
}

int winograd_products(const Shape& s) { return method_of(s).products; }

Packed winograd_kernels(const Shape& s, const at::Tensor& w) {
  auto u = transformed(method_of(s), w, false);
  return {u, kernels_of(u).t()};
}

at::Tensor winograd(const Shape& s, const at::Tensor& x, Packed& kernels, const Epilogue& e) {
  Tiles tiles(method_of(s), s.n, s.oh, s.ow);
  return convolve(tiles, x, s.co, [&](const Matrix& v, const Matrix& m) { kernels.product(v, m, {}); }, e);
}

}  // namespace cordon
