#include "columns.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "heap.h"

namespace cordon {
namespace {

// A row of the kernel sees pixels that lie side by side.
template <class T>
void gather(const Shape& s, const T* x, int64_t width, T* columns) {
  at::parallel_for(0, s.n * s.oh, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const T* image = x + r / s.oh * s.pixels() * s.ci;
      T* to = columns + r * s.ow * width;
      for (int64_t q = 0; q < s.ow; q++, to += width) {
        std::memset(to, 0, width * sizeof(T));
        int64_t left = q * s.stride - s.padding, low = std::max<int64_t>(0, -left), high = std::min(s.k, s.w - left);
        for (int64_t i = 0; i < s.k; i++) {
          int64_t a = r % s.oh * s.stride - s.padding + i;
          if (a >= 0 && a < s.h && low < high)
            std::memcpy(to + (i * s.k + low) * s.ci, image + (a * s.w + left + low) * s.ci, (high - low) * s.ci * sizeof(T));
        }
      }
    }
  });
}

}  // namespace

at::Tensor columns_of(const Shape& s, const at::Tensor& image, int64_t width) {
  auto x = image.contiguous(at::MemoryFormat::ChannelsLast);
  auto columns = scratch({s.n * s.out_pixels(), width}, x.scalar_type());
  if (x.scalar_type() == at::kFloat)
    gather(s, x.data_ptr<float>(), width, columns.data_ptr<float>());
  else
    gather(s, x.data_ptr<at::BFloat16>(), width, columns.data_ptr<at::BFloat16>());
  return columns;
}

}  // namespace cordon
