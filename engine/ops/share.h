// Work shared out between threads.
#pragma once
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace cordon {

// Calls f(begin, end) for all of [0, count) in pieces. Every thread begins in a part of its own, the
// same from one operation to the next, which its cache may still hold, and then helps the
// others: two processors are seldom equally fast for a millisecond.
template <class F>
void share_out(int64_t count, int64_t piece, F f) {
  int64_t pieces = (count + piece - 1) / piece, parts = std::min<int64_t>(at::get_num_threads(), pieces);
  std::vector<std::atomic<int64_t>> next(parts);
  for (int64_t p = 0; p < parts; p++) next[p] = pieces * p / parts;
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t own = first; own < last; own++)
      for (int64_t p = own; p < own + parts; p++) {
        int64_t end = pieces * (p % parts + 1) / parts;
        for (int64_t i; (i = next[p % parts]++) < end;) f(i * piece, std::min(count, (i + 1) * piece));
      }
  });
}

}  // namespace cordon
