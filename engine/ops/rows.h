// The rows of a convolution seen as a sum of products over its taps: for every
// sample and output pixel the input pixel that each tap takes. Seen backward, for
// every input pixel the output pixel.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "shape.h"

namespace cordon {

constexpr int64_t kRows = 32;  // that lie together

struct Row {
  int64_t sample, pixel;
};

struct Rows {
  int64_t samples, targets, sources, taps;  // targets and sources: pixels of a sample
  int64_t group;                            // samples whose rows lie together, pixel by pixel
  std::vector<int64_t> order;               // of the target pixels: those with the same taps together
  std::vector<int64_t> from;                // target × tap: the source pixel, -1 for none
  std::vector<bool> meets;                  // tap: whether it has a source anywhere

  int64_t count() const { return samples * targets; }

  // The rows from `first` on; returns how many of the 32 there are.
  int64_t locate(int64_t first, Row* rows) const {
    int64_t end = std::min(count(), first + kRows);
    int64_t start = first / (group * targets) * group, size = std::min(group, samples - start);
    int64_t i = first - start * targets, pixel = i / size, sample = i % size;
    for (int64_t r = first; r < end; r++) {
      *rows++ = {start + sample, order[pixel]};
      if (++sample < size) continue;
      sample = 0;
      if (++pixel < targets) continue;
      pixel = 0;
      start += size;
      size = std::min(group, samples - start);
    }
    return end - first;
  }

  // Which of samples × pixels a row is.
  int64_t target(const Row& row) const { return row.sample * targets + row.pixel; }

  // Which of samples × pixels a tap joins with a row, -1 for none.
  int64_t source(const Row& row, int64_t tap) const {
    int64_t pixel = from[row.pixel * taps + tap];
    return pixel < 0 ? -1 : row.sample * sources + pixel;
  }
};

// The rows of a shape, good until the next call: they are kept, for any number of
// samples. On the engine's one thread.
const Rows& rows_of(const Shape& s, bool backward);

}  // namespace cordon
