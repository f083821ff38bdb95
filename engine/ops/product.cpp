#include "product.h"

#include "isa.h"

#ifdef CORDON_ONEDNN
#include <ATen/Parallel.h>

#include <array>
#include <dnnl.hpp>
#include <map>
#include <unordered_map>
#endif

namespace cordon {

#ifdef CORDON_ONEDNN
namespace {

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& stream() {
  static dnnl::stream stream(cpu());
  return stream;
}

dnnl::memory::data_type type_of(at::ScalarType t) {
  TORCH_CHECK(t == at::kFloat || t == at::kBFloat16, "products are of float or bfloat16, not ", t);
  return t == at::kFloat ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

// Strides of a matrix; of a dimension of one element they can be anything, and
// are made those of a dense one.
std::array<int64_t, 2> strides(const at::Tensor& m) {
  int64_t height = m.size(-2), width = m.size(-1);
  int64_t rows = height == 1 ? width * m.stride(-1) : m.stride(-2);
  int64_t columns = width == 1 ? (m.stride(-2) == 1 ? height : 1) : m.stride(-1);
  if (height == 1 && width == 1) rows = columns = 1;
  return {rows, columns};
}

// Of a matrix or a dense batch of them.
dnnl::memory::desc layout(const at::Tensor& m) {
  auto s = strides(m);
  auto type = type_of(m.scalar_type());
  if (m.dim() == 2) return {{m.size(0), m.size(1)}, type, {s[0], s[1]}};
  return {{m.size(0), m.size(1), m.size(2)}, type, {m.size(1) * m.size(2), s[0], s[1]}};
}

// Of a value per column.
dnnl::memory::desc row(int64_t columns) { return {{1, columns}, dnnl::memory::data_type::f32, {columns, 1}}; }

dnnl::memory view(const dnnl::memory::desc& desc, const at::Tensor& m) { return {desc, cpu(), m.data_ptr()}; }

// bias may be empty.
dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& a, const dnnl::memory::desc& b, const dnnl::memory::desc& bias,
                                      const dnnl::memory::desc& c, const dnnl::post_ops& after) {
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(after);
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), a, b, bias, c, attributes};
#else
  return {{a, b, bias, c}, attributes, cpu()};
#endif
}

void append_relu(dnnl::post_ops& after) {
#if DNNL_VERSION_MAJOR >= 3
  after.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
#else
  after.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
#endif
}

// A product made once for its shapes, types and layouts.
struct Product {
  dnnl::memory::desc a, b, c;
  dnnl::matmul matmul;
};

// The product of a and b into c (dense), or added to c.
void multiply(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool add) {
  static std::map<std::array<int64_t, 12>, Product> made;
  auto sa = strides(a), sb = strides(b);
  int64_t batch = a.dim() == 3 ? a.size(0) : 0;
  std::array<int64_t, 12> key = {batch, a.size(-2), a.size(-1), b.size(-1), sa[0], sa[1], sb[0], sb[1],
                                 (int64_t)a.scalar_type(), (int64_t)c.scalar_type(), add,
                                 at::get_num_threads()};  // a product keeps the threads it was made for
  auto it = made.find(key);
  if (it == made.end()) {
    dnnl::post_ops sum;
    if (add) sum.append_sum();
    Product p{layout(a), layout(b), layout(c), {}};
    p.matmul = dnnl::matmul(describe(p.a, p.b, {}, p.c, sum));
    it = made.emplace(key, std::move(p)).first;
  }
  auto& p = it->second;
  p.matmul.execute(stream(), {{DNNL_ARG_SRC, view(p.a, a)}, {DNNL_ARG_WEIGHTS, view(p.b, b)}, {DNNL_ARG_DST, view(p.c, c)}});
  stream().wait();
}

}  // namespace

std::string product_library() {
  const dnnl_version_t* v = dnnl_version();
  return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

bool have_products() { return true; }

bool fast_bf16_products() { return isa() >= Isa::kAvx512; }

at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::ScalarType out) {
  TORCH_CHECK(a.size(1) == b.size(0) && a.scalar_type() == b.scalar_type(), "no product of ", a.sizes(), " and ", b.sizes());
  auto c = at::empty({a.size(0), b.size(1)}, a.options().dtype(out));
  multiply(a, b, c, false);
  return c;
}

void products(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool add) {
  TORCH_CHECK(a.size(2) == b.size(1) && a.scalar_type() == b.scalar_type(), "no products of ", a.sizes(), " and ", b.sizes());
  multiply(a, b, c, add);
}

struct Packed::Layout {
  at::Tensor values;  // of b, in the order that desc says
  dnnl::memory::desc desc;
  std::map<std::array<int64_t, 5>, Product> made;

  // Moves the values to another order.
  void arrange(const dnnl::memory::desc& wanted) {
    if (desc == wanted) return;
    auto moved = at::empty({(int64_t)wanted.get_size()}, at::kByte);
    auto from = view(desc, values), to = view(wanted, moved);
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
    values = moved;
    desc = wanted;
  }

  const Product& product_for(const at::Tensor& a, const at::Tensor& c, const Epilogue& e) {
    std::array<int64_t, 5> key = {a.size(-2), e.bias.defined(), e.residual.defined(), e.relu, at::get_num_threads()};
    auto it = made.find(key);
    if (it != made.end()) return it->second;
    auto any = dnnl::memory::desc(desc.dims(), dnnl::memory::data_type::f32, dnnl::memory::format_tag::any);
    Product p{layout(a), {}, layout(c), {}};
    dnnl::post_ops after;
    if (e.residual.defined()) after.append_sum();
    if (e.relu) append_relu(after);
    auto described = describe(p.a, any, e.bias.defined() ? row(c.size(1)) : dnnl::memory::desc(), p.c, after);
    p.b = described.weights_desc();
    p.matmul = dnnl::matmul(described);
    return made.emplace(key, std::move(p)).first->second;
  }

  void multiply(const at::Tensor& a, const at::Tensor& c, const Epilogue& e) {
    const auto& p = product_for(a, c, e);
    arrange(p.b);
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, view(p.a, a)}, {DNNL_ARG_WEIGHTS, view(p.b, values)}, {DNNL_ARG_DST, view(p.c, c)}};
    if (e.bias.defined()) arguments.emplace(DNNL_ARG_BIAS, view(row(c.size(1)), e.bias));
    p.matmul.execute(stream(), arguments);
    stream().wait();
  }
};

Packed::Packed(const at::Tensor& b) : layout_(new Layout{b, layout(b), {}}) {}

at::Tensor Packed::product(const at::Tensor& a, const Epilogue& e) {
  TORCH_CHECK(a.size(1) == layout_->desc.dims()[0], "no product of ", a.sizes(), " and ", layout_->desc.dims());
  auto c = e.residual.defined() ? e.residual : at::empty({a.size(0), layout_->desc.dims()[1]}, a.options());
  layout_->multiply(a, c, e);
  return c;
}

void Packed::products(const at::Tensor& a, const at::Tensor& c) { layout_->multiply(a, c, {}); }

#else

std::string product_library() { return "no oneDNN"; }

bool have_products() { return false; }

bool fast_bf16_products() { return false; }

at::Tensor product(const at::Tensor&, const at::Tensor&, at::ScalarType) { TORCH_CHECK(false, "built without oneDNN"); }

void products(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) { TORCH_CHECK(false, "built without oneDNN"); }

Packed::Packed(const at::Tensor&) { TORCH_CHECK(false, "built without oneDNN"); }

at::Tensor Packed::product(const at::Tensor&, const Epilogue&) { TORCH_CHECK(false, "built without oneDNN"); }

void Packed::products(const at::Tensor&, const at::Tensor&) { TORCH_CHECK(false, "built without oneDNN"); }

#endif

}  // namespace cordon
