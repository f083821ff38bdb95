// The sizes of a convolution, and what belongs to its channels.
#pragma once
#include <ATen/ATen.h>

namespace cordon {

struct Shape {
  int64_t n, ci, h, w;    // input
  int64_t co, oh, ow, k;  // output and kernel
  int64_t stride, padding;

  // A 1×1 convolution of n images of h × w.
  Shape(int64_t n, int64_t ci, int64_t h, int64_t w, int64_t co)
      : n(n), ci(ci), h(h), w(w), co(co), oh(h), ow(w), k(1), stride(1), padding(0) {}
  Shape(const at::Tensor& x, const at::Tensor& weight, int64_t s, int64_t p)
      : n(x.size(0)), ci(x.size(1)), h(x.size(2)), w(x.size(3)), co(weight.size(0)), k(weight.size(2)), stride(s),
        padding(p) {
    oh = (h + 2 * p - k) / s + 1;
    ow = (w + 2 * p - k) / s + 1;
  }
  int64_t pixels() const { return h * w; }
  int64_t out_pixels() const { return oh * ow; }
  int64_t taps() const { return k * k; }
  // The tap of the kernel that joins an input pixel with an output pixel, -1 where none does.
  int64_t tap(int64_t in, int64_t out) const {
    int64_t a = in / w - out / ow * stride + padding, b = in % w - out % ow * stride + padding;
    return a >= 0 && a < k && b >= 0 && b < k ? a * k + b : -1;
  }
};

// Whether t is a float for every channel.
inline bool per_channel(const at::Tensor& t, int64_t channels) {
  return t.defined() && t.is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous() && t.numel() == channels;
}

}  // namespace cordon
