// Evaluation. By the running statistics batch norm is a factor and a summand for every
// channel. The factor goes into the kernels; the summand, the residual and ReLU are
// added as the product is written. Kernels are folded and packed once for all batches and threads.
#include "folded.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "conv.h"
#include "ops.h"
#include "product.h"
#include "winograd.h"

namespace cordon {
namespace {

std::mutex mutex;  // of what is kept

// Tensors as they were: none freed, none written to.
class Seen {
 public:
  explicit Seen(const std::vector<at::Tensor>& tensors) {
    for (const auto& t : tensors) seen_.emplace_back(t.getIntrusivePtr(), t._version());
  }
  bool alive() const {
    return std::none_of(seen_.begin(), seen_.end(), [](const auto& s) { return s.first.expired(); });
  }
  bool same(const std::vector<at::Tensor>& tensors) const {
    for (size_t i = 0; i < tensors.size(); i++)
      if (seen_[i].first.lock() != tensors[i].getIntrusivePtr() || seen_[i].second != tensors[i]._version()) return false;
    return true;
  }

 private:
  std::vector<std::pair<c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>, int64_t>> seen_;
};

// The kernels for one way, packed unless ATen takes them.
struct Kernels {
  Way way;
  Packed packed;
  at::Tensor plain;
};

// A convolution and its norm.
class Folded {
 public:
  Folded(const at::Tensor& weight, const Norm& n) : seen_(parts(weight, n)), eps_(n.eps) {
    auto scale = n.weight / (n.running_var + n.eps).sqrt();
    bias_ = n.bias - n.running_mean * scale;
    scale_ = scale.view({-1, 1, 1, 1});
  }

  bool alive() const { return seen_.alive(); }
  bool of(const at::Tensor& weight, const Norm& n) const { return eps_ == n.eps && seen_.same(parts(weight, n)); }

  at::Tensor convolve(const Shape& s, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual, bool relu) {
    auto& k = kernels(s, weight);
    if (k.way == Way::kWinograd) return winograd(s, x, k.packed, {bias_, residual, relu});
    if (k.way == Way::kAten) {
      auto y = at::conv2d(x, k.plain, bias_, {s.stride, s.stride}, {s.padding, s.padding});
      if (residual.defined()) y.add_(residual);
      return relu ? y.relu_() : y;
    }
    auto y = residual.defined() ? residual : new_image(s.n, s.co, s.oh, s.ow, at::kFloat);
    if (k.way == Way::kDense) {
      int64_t in = s.pixels() * s.ci, out = s.out_pixels() * s.co;
      k.packed.product({x, s.n, in}, {y, s.n, out}, {bias_.repeat({s.out_pixels()}), residual, relu});
    } else {
      int64_t rows = s.n * s.out_pixels();
      k.packed.product({met(s, x), rows, s.taps() * s.ci}, {y, rows, s.co}, {bias_, residual, relu});
    }
    return y;
  }

 private:
  static std::vector<at::Tensor> parts(const at::Tensor& weight, const Norm& n) {
    return {weight, n.weight, n.bias, n.running_mean, n.running_var};
  }

  Kernels& kernels(const Shape& s, const at::Tensor& weight) {
    std::lock_guard<std::mutex> lock(mutex);
    Way way = way_of(s, at::kFloat, false);
    if (way == Way::kColumns && !columns_pay(s, at::kFloat)) way = Way::kAten;
    std::array<int64_t, 3> key = {(int64_t)way, 0, 0};
    if (way == Way::kDense) key = {(int64_t)way, s.h, s.w};
    if (way == Way::kWinograd) key = {(int64_t)way, winograd_products(s), 0};
    auto it = made_.find(key);
    if (it == made_.end()) it = made_.emplace(key, make(way, s, (weight * scale_).contiguous(at::MemoryFormat::ChannelsLast))).first;
    return it->second;
  }

  static Kernels make(Way way, const Shape& s, const at::Tensor& w) {
    switch (way) {
      case Way::kPointwise:
      case Way::kColumns: return {way, {w, Matrix(w, s.co, s.taps() * s.ci).t()}, {}};
      case Way::kDense: {
        auto wide = widened(s, w, at::kFloat);
        return {way, {wide, Matrix(wide, s.out_pixels() * s.co, s.pixels() * s.ci).t()}, {}};
      }
      case Way::kWinograd: return {way, winograd_kernels(s, w), {}};
      default: return {way, {}, w};
    }
  }

  Seen seen_;
  double eps_;
  at::Tensor scale_, bias_;
  std::map<std::array<int64_t, 3>, Kernels> made_;
};

// By the kernels that they are made of.
std::unordered_map<const at::TensorImpl*, Folded>& kept() {
  static std::unordered_map<const at::TensorImpl*, Folded> folded;
  return folded;
}

Folded& folded(const at::Tensor& weight, const Norm& n) {
  std::lock_guard<std::mutex> lock(mutex);
  auto& all = kept();
  auto it = all.find(weight.unsafeGetTensorImpl());
  if (it != all.end() && it->second.of(weight, n)) return it->second;
  for (auto i = all.begin(); i != all.end();) i = i->second.alive() ? std::next(i) : all.erase(i);
  return all.insert_or_assign(weight.unsafeGetTensorImpl(), Folded(weight, n)).first->second;
}

}  // namespace

void drop_kept_kernels() {
  std::lock_guard<std::mutex> lock(mutex);
  kept().clear();
}

at::Tensor folded_conv_norm(const Shape& s, const at::Tensor& x, const at::Tensor& w, const Norm& norm,
                            const at::Tensor& residual, bool relu) {
  return folded(w, norm).convolve(s, x, w, residual, relu);
}

}  // namespace cordon
