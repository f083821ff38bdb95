#include "rows.h"

#include <array>
#include <map>

namespace cordon {
namespace {

Rows make(const Shape& s, bool backward) {
  Rows r{s.n, s.out_pixels(), s.pixels(), s.taps(), 1, {}, {}, std::vector<bool>(s.taps())};
  if (backward) std::swap(r.targets, r.sources);
  r.from.assign(r.targets * r.taps, -1);
  for (int64_t o = 0; o < s.out_pixels(); o++)
    for (int64_t tap = 0; tap < r.taps; tap++) {
      int64_t a = o / s.ow * s.stride - s.padding + tap / s.k, b = o % s.ow * s.stride - s.padding + tap % s.k;
      if (a < 0 || a >= s.h || b < 0 || b >= s.w) continue;
      int64_t i = a * s.w + b;
      r.from[(backward ? i : o) * r.taps + tap] = backward ? o : i;
      r.meets[tap] = true;
    }
  std::vector<std::vector<bool>> missing(r.targets);
  for (int64_t t = 0; t < r.targets; t++) {
    r.order.push_back(t);
    for (int64_t tap = 0; tap < r.taps; tap++) missing[t].push_back(r.from[t * r.taps + tap] < 0);
  }
  std::stable_sort(r.order.begin(), r.order.end(), [&](int64_t a, int64_t b) { return missing[a] < missing[b]; });
  if (missing[r.order.front()] == missing[r.order.back()]) return r;
  // Samples enough for a block of each pixel, as far as all fit a part of the cache.
  int64_t bytes = 2 * std::max(s.pixels() * s.ci, s.out_pixels() * s.co);
  r.group = std::clamp<int64_t>((256 << 10) / bytes, 1, kRows);
  return r;
}

}  // namespace

const Rows& rows_of(const Shape& s, bool backward) {
  thread_local std::map<std::array<int64_t, 8>, Rows> made;
  std::array<int64_t, 8> key = {s.ci, s.h, s.w, s.co, s.k, s.stride, s.padding, backward};
  auto it = made.find(key);
  if (it == made.end()) it = made.emplace(key, make(s, backward)).first;
  it->second.samples = s.n;
  return it->second;
}

}  // namespace cordon
