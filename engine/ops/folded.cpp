// Evaluation. By the running statistics batch norm is a factor and a summand for every
// channel. The factor goes into the kernels; the summand, the residual and ReLU are
// added as the product is written. Kernels are folded and packed once for all batches.
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "columns.h"
#include "conv.h"
#include "ops.h"
#include "product.h"
#include "winograd.h"

namespace cordon {
namespace {

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

  at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t padding,
                      const at::Tensor& residual, bool relu) {
    Shape s(x, weight, stride, padding);
    auto& k = kernels(s, weight);
    auto rows = [&](int64_t height) { return residual.defined() ? as_rows(residual).view({height, -1}) : residual; };
    at::Tensor y;
    switch (k.way) {
      case Way::kPointwise:
        y = k.packed.product(as_rows(strided_pixels(x, stride)), {bias_, rows(s.n * s.out_pixels()), relu});
        break;
      case Way::kColumns:
        y = k.packed.product(columns_of(s, x, s.k * s.k * s.ci), {bias_, rows(s.n * s.out_pixels()), relu});
        break;
      case Way::kDense:
        y = k.packed.product(as_rows(x).view({s.n, -1}), {bias_.repeat({s.out_pixels()}), rows(s.n), relu});
        break;
      case Way::kWinograd: return winograd(x, k.packed, {bias_, rows(s.n * s.out_pixels()), relu});
      case Way::kAten:
        y = at::conv2d(x, k.plain, bias_, {stride, stride}, {padding, padding});
        if (residual.defined()) y.add_(residual);
        return relu ? y.relu_() : y;
    }
    return as_image(y, s.n, s.oh, s.ow, s.co);
  }

 private:
  static std::vector<at::Tensor> parts(const at::Tensor& weight, const Norm& n) {
    return {weight, n.weight, n.bias, n.running_mean, n.running_var};
  }

  Kernels& kernels(const Shape& s, const at::Tensor& weight) {
    Way way = way_of(s, at::kFloat);
    if (way == Way::kColumns && !columns_pay(s, at::kFloat)) way = Way::kAten;
    std::array<int64_t, 3> key = {(int64_t)way, 0, 0};
    if (way == Way::kDense || way == Way::kWinograd) key = {(int64_t)way, s.h, s.w};
    auto it = made_.find(key);
    if (it == made_.end()) it = made_.emplace(key, make(way, s, weight * scale_)).first;
    return it->second;
  }

  static Kernels make(Way way, const Shape& s, const at::Tensor& w) {
    switch (way) {
      case Way::kPointwise:
      case Way::kColumns: return {way, Packed(as_rows(w).view({s.co, -1}).t()), {}};
      case Way::kDense: return {way, Packed(widened(s, w, at::kFloat).t()), {}};
      case Way::kWinograd: return {way, Packed(winograd_kernels(w, s.h, s.w)), {}};
      case Way::kAten: break;
    }
    return {way, {}, w};
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
  auto& all = kept();
  auto it = all.find(weight.unsafeGetTensorImpl());
  if (it != all.end() && it->second.of(weight, n)) return it->second;
  for (auto i = all.begin(); i != all.end();) i = i->second.alive() ? std::next(i) : all.erase(i);
  return all.insert_or_assign(weight.unsafeGetTensorImpl(), Folded(weight, n)).first->second;
}

bool foldable(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& n,
              const at::Tensor& residual) {
  if (n.mode != NormRunning || x.scalar_type() != at::kFloat || !in_our_layout(x, w, stride, padding)) return false;
  Shape s(x, w, stride, padding);
  if (s.co % 16 != 0) return false;  // whose norm is ATen's
  for (const auto* t : {&n.weight, &n.bias, &n.running_mean, &n.running_var})
    if (!per_channel(*t, s.co)) return false;
  return !residual.defined() ||
         (residual.is_cpu() && residual.scalar_type() == at::kFloat && residual.is_contiguous(at::MemoryFormat::ChannelsLast) &&
          residual.sizes() == at::IntArrayRef({s.n, s.co, s.oh, s.ow}));
}

}  // namespace

void drop_kept_kernels() { kept().clear(); }

at::Tensor conv_norm(const at::Tensor& x, const at::Tensor& w, int64_t stride, int64_t padding, const Norm& norm,
                     const at::Tensor& residual, bool relu) {
  if (c10::GradMode::is_enabled())
    drop_kept_kernels();  // training needs the memory
  else if (foldable(x, w, stride, padding, norm, residual))
    return folded(w, norm).convolve(x, w, stride, padding, residual, relu);
  return batch_norm(conv2d(x, w, stride, padding), norm, residual, relu);
}

}  // namespace cordon
