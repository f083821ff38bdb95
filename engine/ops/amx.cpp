// A convolution is a sum of products, one for every tap of its kernel:
//
//   y[row] = Σ_tap x[from(row, tap)] · w[tap]        row: a sample and an output pixel
//
// and so are its gradients. Blocks of 32 rows by 32 channels are summed in four
// tiles, over all taps and input channels before they are stored. Each operand
// is packed into tiles beforehand, block by block, so that it stays in the cache; rows
// that lie one after the other are tiles already.
//
// Rows with the same taps lie together: a tap that only meets padding in all 32
// of a block is left out, which on images of a few pixels are most.
#include "amx.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "columns.h"
#include "isa.h"
#include "rows.h"

#if defined(__x86_64__) && __GNUC__ >= 11 && !defined(__clang__)
#define CORDON_AMX
// g++ 12 warns of its own header.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

namespace cordon {

#ifdef CORDON_AMX
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

using Bf16 = uint16_t;  // the bits of a bfloat16

constexpr int64_t kSide = kRows;           // rows, channels and depth of a block
constexpr int64_t kBlock = kSide * kSide;  // its elements: two tiles

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

Bf16* bits(const at::Tensor& t) { return static_cast<Bf16*>(t.data_ptr()); }

at::Tensor buffer(int64_t elements) { return at::empty({elements}, at::kBFloat16); }

constexpr int64_t kCacheBytes = 1 << 20;  // of a core's own cache, for one operand

// What one thread does at a time.
struct Part {
  int64_t first, end;  // blocks of rows
  int64_t low, high;   // blocks of channels out
};

// ---- Kernels ----

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16")

// g++ does not know that tiles are loaded from memory: what is packed has to be there.
inline void written() { asm volatile("" ::: "memory"); }

// Tiles 0 to 3 are the sums of a block, 4 and 5 rows, 6 and 7 channels.
void begin_tiles() {
  struct alignas(64) Config {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  };
  static const Config config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&config);
}

void end_tiles() { _tile_release(); }

inline void zero_sums() {
  written();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Adds the product of two blocks, the second packed; `row` is from one row of the first to the next.
inline void add_product(const Bf16* a, int64_t row, const Bf16* b) {
  _tile_loadd(4, a, row * 2);
  _tile_loadd(6, b, 64);
  _tile_loadd(7, b + kBlock / 2, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + 16 * row, row * 2);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

inline void load_sums(const float* c, int64_t stride) {
  written();
  _tile_loadd(0, c, stride * 4);
  _tile_loadd(1, c + 16, stride * 4);
  _tile_loadd(2, c + 16 * stride, stride * 4);
  _tile_loadd(3, c + 16 * stride + 16, stride * 4);
}

inline void store_sums(float* c, int64_t stride) {
  _tile_stored(0, c, stride * 4);
  _tile_stored(1, c + 16, stride * 4);
  _tile_stored(2, c + 16 * stride, stride * 4);
  _tile_stored(3, c + 16 * stride + 16, stride * 4);
}

// Rows of 16 × 32 bits become columns.
inline void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 4) {
    __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  for (int i = 0; i < 4; i++) {
    __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88), d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

// Two rows of channels as pairs: those of the first 16 channels, and of the others.
alignas(64) const uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
alignas(64) const uint16_t kHigh[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                        24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

inline __m512i pairs(__m512i even, __m512i odd, const uint16_t* index) {
  return _mm512_permutex2var_epi16(even, _mm512_load_si512(index), odd);
}

// Packs 32 rows by 32 channels for a product over the rows: as its second operand
// (pairs of rows), or with the channels as rows, as its first.
inline void pack_depth(const Bf16* const* rows, int64_t channel, bool first, Bf16* to) {
  __m512i low[16], high[16];
  for (int64_t p = 0; p < 16; p++) {
    auto even = _mm512_loadu_si512(rows[2 * p] + channel), odd = _mm512_loadu_si512(rows[2 * p + 1] + channel);
    low[p] = pairs(even, odd, kLow);
    high[p] = pairs(even, odd, kHigh);
  }
  if (first) {
    transpose(low);
    transpose(high);
  }
  for (int64_t p = 0; p < 16; p++) {
    _mm512_store_si512(to + 32 * p, low[p]);
    _mm512_store_si512(to + 32 * p + kBlock / 2, high[p]);
  }
}

inline __m512i rounded(const float* low, const float* high) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(high), _mm512_loadu_ps(low));
}

// Packs the kernels of 32 channels out and 32 in as the second operand of a
// product over the channels in. `stride` is from one channel out to the next.
void pack_kernels(const float* w, int64_t stride, Bf16* to) {
  for (int64_t half = 0; half < 2; half++, to += kBlock / 2) {
    __m512i r[16];
    for (int64_t o = 0; o < 16; o++) {
      const float* from = w + (16 * half + o) * stride;
      r[o] = rounded(from, from + 16);
    }
    transpose(r);
    for (int64_t p = 0; p < 16; p++) _mm512_store_si512(to + 32 * p, r[p]);
  }
}

// The same over the channels out.
void pack_kernels_back(const float* w, int64_t stride, Bf16* to) {
  for (int64_t p = 0; p < 16; p++, to += 32) {
    const float *even = w + 2 * p * stride, *odd = even + stride;
    auto e = rounded(even, even + 16), o = rounded(odd, odd + 16);
    _mm512_store_si512(to, pairs(e, o, kLow));
    _mm512_store_si512(to + kBlock / 2, pairs(e, o, kHigh));
  }
}

// Rounds rows of 32 sums to where they belong.
void round_rows(const float* sums, int64_t count, Bf16* const* to, int64_t channel) {
  for (int64_t r = 0; r < count; r++)
    _mm512_storeu_si512(to[r] + channel, rounded(sums + r * kSide, sums + r * kSide + 16));
}

// 32 rows, and for each tap that any of them has where to load the blocks of its channels from.
struct Gathered {
  struct Tap {
    int64_t tap;
    const Bf16* at;
    int64_t row, block;  // from one row, and one block, to the next
  };
  Row rows[kSide];
  int64_t count;
  std::vector<Tap> taps;
};

// Rows that lie one after the other are loaded where they are, others copied to `to`.
void gather(const Rows& rows, const Bf16* x, int64_t channels, int64_t first, Gathered& g, Bf16* to) {
  g.count = rows.locate(first, g.rows);
  g.taps.clear();
  for (int64_t tap = 0; tap < rows.taps; tap++) {
    const Bf16* from[kSide] = {};
    bool any = false, whole = g.count == kSide;
    for (int64_t r = 0; r < g.count; r++) {
      int64_t source = rows.source(g.rows[r], tap);
      if (source >= 0) from[r] = x + source * channels;
      any |= source >= 0;
      whole &= source >= 0 && from[r] == from[0] + r * channels;
    }
    if (whole) g.taps.push_back({tap, from[0], channels, kSide});
    if (whole || !any) continue;
    g.taps.push_back({tap, to, kSide, kBlock});
    for (int64_t c = 0; c < channels; c += kSide)
      for (int64_t r = 0; r < kSide; r++, to += kSide)
        _mm512_store_si512(to, from[r] ? _mm512_loadu_si512(from[r] + c) : _mm512_setzero_si512());
  }
}

// The sums of gathered rows by the kernels of 32 channels, of `deep` blocks for a tap.
void sum_taps(const Gathered& g, const Bf16* kernels, int64_t deep, float* sums) {
  zero_sums();
  for (const auto& t : g.taps) {
    const Bf16 *a = t.at, *b = kernels + t.tap * deep * kBlock;
    for (int64_t d = 0; d < deep; d++, a += t.block, b += kBlock) add_product(a, t.row, b);
  }
  store_sums(sums, kSide);
}

// Adds products over rows to the gradient of a kernel's 32 × 32 channels, or begins it: of the
// blocks of a that are `used`, and all of b.
void sum_rows(const Bf16* a, const std::vector<int64_t>& used, const Bf16* b, bool begin, float* dw, int64_t stride) {
  begin ? zero_sums() : load_sums(dw, stride);
  for (int64_t k : used) {
    add_product(a + k * kBlock, kSide, b);
    b += kBlock;
  }
  store_sums(dw, stride);
}

// What a kernel's gradient is made of.
struct Operands {
  const Rows& rows;
  const Bf16 *x, *dy;
  int64_t ci, co;
};

// The part's sums, into dw (channels out × tap × channels in).
void sum_part(const Operands& p, const Part& part, float* dw) {
  int64_t out = part.high - part.low, taps = p.rows.taps;
  int64_t height = std::clamp<int64_t>(kCacheBytes / (out * kSide * (int64_t)sizeof(Bf16)), 512, 2048) / kSide;
  height = std::min(height, part.end - part.first);
  auto first = buffer(out * height * kBlock), second = buffer(height * kBlock);
  const std::vector<Bf16> zeros(std::max(p.ci, p.co));
  std::unique_ptr<const Bf16*[]> source(new const Bf16*[taps * height * kSide]);
  std::vector<int64_t> used;
  begin_tiles();
  for (int64_t start = part.first; start < part.end; start += height) {
    int64_t here = std::min(height, part.end - start);
    for (int64_t b = 0; b < here; b++) {
      Row rows[kSide];
      const Bf16* dy[kSide];
      int64_t count = p.rows.locate((start + b) * kSide, rows);
      for (int64_t r = 0; r < kSide; r++)
        dy[r] = r < count ? p.dy + p.rows.target(rows[r]) * p.co : zeros.data();
      for (int64_t o = 0; o < out; o++)
        pack_depth(dy, (part.low + o) * kSide, true, bits(first) + (o * height + b) * kBlock);
      for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t r = 0; r < kSide; r++) {
          int64_t from = r < count ? p.rows.source(rows[r], tap) : -1;
          source[(tap * height + b) * kSide + r] = from < 0 ? zeros.data() : p.x + from * p.ci;
        }
    }
    for (int64_t tap = 0; tap < taps; tap++) {
      used.clear();
      for (int64_t b = 0; b < here; b++) {
        auto from = &source[(tap * height + b) * kSide];
        if (std::any_of(from, from + kSide, [&](const Bf16* at) { return at != zeros.data(); })) used.push_back(b);
      }
      for (int64_t c = 0; c < p.ci; c += kSide) {
        for (size_t u = 0; u < used.size(); u++)
          pack_depth(&source[(tap * height + used[u]) * kSide], c, false, bits(second) + u * kBlock);
        for (int64_t o = 0; o < out; o++)
          sum_rows(bits(first) + o * height * kBlock, used, bits(second), start == part.first,
                   dw + ((part.low + o) * kSide * taps + tap) * p.ci + c, taps * p.ci);
      }
    }
  }
  end_tiles();
}

#pragma GCC pop_options

// ---- The convolution, and the gradient of its input ----

// The kernels of a convolution, or of its input's gradient: `to` and `from` are those of its channels.
struct Kernels {
  const Shape& shape;
  const Rows& rows;
  const float* weight;
  bool backward;
  int64_t from = backward ? shape.co : shape.ci, to = backward ? shape.ci : shape.co;

  // Elements of 32 channels to, packed.
  int64_t panel() const { return rows.taps * from * kSide; }

  // Packs the kernels of a block of channels to: tap × block of channels from.
  void pack(int64_t block, Bf16* out) const {
    int64_t stride = rows.taps * shape.ci, t = block * kSide;
    for (int64_t tap = 0; tap < rows.taps; tap++)
      for (int64_t f = 0; f < from && rows.meets[tap]; f += kSide) {
        const float* at = weight + ((backward ? f : t) * rows.taps + tap) * shape.ci + (backward ? t : f);
        (backward ? pack_kernels_back : pack_kernels)(at, stride, out + tap * from * kSide + f * kSide);
      }
  }
};

// Gathers the rows of a part and multiplies them by packed kernels, or, where there are none, by
// kernels that it packs into `panel`, block by block.
void convolve_part(const Kernels& k, const Part& p, const Bf16* x, const Bf16* packed, Bf16* panel, Bf16* gathered, Bf16* y) {
  std::vector<Gathered> blocks(p.end - p.first);
  for (size_t b = 0; b < blocks.size(); b++) {
    blocks[b].taps.reserve(k.rows.taps);
    gather(k.rows, x, k.from, (p.first + b) * kSide, blocks[b], gathered + b * k.panel());
  }
  alignas(64) float sums[kBlock];
  for (int64_t c = p.low; c < p.high; c++) {
    if (!packed) k.pack(c, panel);
    for (const auto& g : blocks) {
      Bf16* where[kSide];
      for (int64_t r = 0; r < g.count; r++) where[r] = y + k.rows.target(g.rows[r]) * k.to;
      sum_taps(g, packed ? packed + c * k.panel() : panel, k.from / kSide, sums);
      round_rows(sums, g.count, where, c * kSide);
    }
  }
}

// x by the kernels. Where all rows fit the cache the threads share out the channels, and each kernel is
// packed where it is used; else they share out the rows.
void convolve(const Kernels& k, const Bf16* x, Bf16* y) {
  int64_t threads = at::get_num_threads(), rows = pieces(k.rows.count(), kSide), channels = k.to / kSide;
  int64_t bytes = k.panel() * (int64_t)sizeof(Bf16), most = std::clamp<int64_t>(kCacheBytes / bytes, 1, 16);
  bool by_channels = rows <= most;
  // Kernels that fit the cache stay there, and one block of rows is enough.
  if (!by_channels && bytes * channels <= kCacheBytes) most = 1;
  int64_t n = by_channels ? std::min(threads, channels) : std::min(rows, threads * pieces(rows, threads * most));
  auto packed = buffer(by_channels ? 0 : channels * k.panel());
  at::parallel_for(0, by_channels ? 0 : channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) k.pack(c, bits(packed) + c * k.panel());
  });
  at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    auto panel = buffer(by_channels ? k.panel() : 0), gathered = buffer(most * k.panel());
    begin_tiles();
    for (int64_t i = begin; i < end; i++) {
      Part p = by_channels ? Part{0, rows, channels * i / n, channels * (i + 1) / n}
                           : Part{rows * i / n, rows * (i + 1) / n, 0, channels};
      convolve_part(k, p, x, by_channels ? nullptr : bits(packed), bits(panel), bits(gathered), y);
    }
    end_tiles();
  });
}

// ---- The gradient of the kernels: products over the rows ----

// Rows are shared out where they are many and the sums few, and the threads' sums
// added up; else channels.
at::Tensor kernel_gradient(const Shape& s, const Operands& p) {
  int64_t rows = pieces(p.rows.count(), kSide), out = p.co / kSide, threads = at::get_num_threads();
  bool by_rows = rows >= p.co;
  auto dw = at::empty({s.co, s.ci, s.k, s.k}, at::TensorOptions().memory_format(kLast));
  // Each thread beyond the first costs a sum as large as the kernel.
  int64_t n = std::min(threads, by_rows ? pieces(rows, 16) : out), size = dw.numel();
  auto others = at::empty({by_rows ? (n - 1) * size : 0}, at::kFloat);
  float *sums = dw.data_ptr<float>(), *more = others.data_ptr<float>();
  at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      Part part = by_rows ? Part{rows * i / n, rows * (i + 1) / n, 0, out} : Part{0, rows, out * i / n, out * (i + 1) / n};
      sum_part(p, part, by_rows && i > 0 ? more + (i - 1) * size : sums);
    }
  });
  at::parallel_for(0, by_rows ? size : 0, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n - 1; i++)
      for (int64_t e = begin; e < end; e++) sums[e] += more[i * size + e];
  });
  return dw;
}

// Channels that all taps of an image's few fill, in whole blocks.
int64_t columns(const Shape& s) { return pieces(s.taps() * s.ci, kSide) * kSide; }

// The 1×1 convolution of the columns.
Shape of_columns(const Shape& s) { return {s.n, columns(s), s.oh, s.ow, s.co}; }

}  // namespace

bool amx_pays(const Shape& s, bool x_grad) {
  if (isa() < Isa::kAmx || s.co % kSide != 0) return false;
  // Columns are many times a large image.
  constexpr int64_t kMost = 32 << 20;
  return s.ci % kSide == 0 || (s.ci < kSide && !x_grad && s.n * s.out_pixels() * columns(s) * 2 <= kMost);
}

at::Tensor amx_forward(const Shape& s, const at::Tensor& x, const at::Tensor& w) {
  if (s.ci % kSide != 0) {
    auto kernels = at::constant_pad_nd(w.permute({0, 2, 3, 1}).reshape({s.co, -1}), {0, columns(s) - s.taps() * s.ci});
    return amx_forward(of_columns(s), columns_of(s, x, columns(s)), kernels);
  }
  auto y = at::empty({s.n, s.co, s.oh, s.ow}, x.options().memory_format(kLast));
  convolve({s, rows_of(s, false), w.data_ptr<float>(), false}, bits(x), bits(y));
  return y;
}

at::Tensor amx_input_gradient(const Shape& s, const at::Tensor& dy, const at::Tensor& w) {
  auto dx = at::empty({s.n, s.ci, s.h, s.w}, dy.options().memory_format(kLast));
  convolve({s, rows_of(s, true), w.data_ptr<float>(), true}, bits(dy), bits(dx));
  return dx;
}

at::Tensor amx_kernel_gradient(const Shape& s, const at::Tensor& x, const at::Tensor& dy) {
  if (s.ci % kSide != 0) {
    auto dw = amx_kernel_gradient(of_columns(s), columns_of(s, x, columns(s)), dy);
    return dw.view({s.co, columns(s)}).narrow(1, 0, s.taps() * s.ci).reshape({s.co, s.k, s.k, s.ci}).permute({0, 3, 1, 2});
  }
  return kernel_gradient(s, {rows_of(s, false), bits(x), bits(dy), s.ci, s.co});
}

#else

bool amx_pays(const Shape&, bool) { return false; }

at::Tensor amx_forward(const Shape&, const at::Tensor&, const at::Tensor&) { TORCH_CHECK(false, "built without AMX"); }

at::Tensor amx_input_gradient(const Shape&, const at::Tensor&, const at::Tensor&) { TORCH_CHECK(false, "built without AMX"); }

at::Tensor amx_kernel_gradient(const Shape&, const at::Tensor&, const at::Tensor&) { TORCH_CHECK(false, "built without AMX"); }

#endif

}  // namespace cordon
