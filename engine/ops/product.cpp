#include "product.h"

#include "isa.h"

#ifdef CORDON_ONEDNN
#include <ATen/Parallel.h>

#include <array>
#include <dnnl.hpp>
#include <map>
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

dnnl::memory view(const dnnl::memory::desc& desc, const at::Tensor& m) { return {desc, cpu(), m.data_ptr()}; }

dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& a, const dnnl::memory::desc& b,
                                      const dnnl::memory::desc& c, const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), a, b, c, attributes};
#else
  return {{a, b, c}, attributes, cpu()};
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
    dnnl::primitive_attr attributes;
    dnnl::post_ops sum;
    if (add) sum.append_sum();
    attributes.set_post_ops(sum);
    Product p{layout(a), layout(b), layout(c), {}};
    p.matmul = dnnl::matmul(describe(p.a, p.b, p.c, attributes));
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

#else

std::string product_library() { return "no oneDNN"; }

bool have_products() { return false; }

bool fast_bf16_products() { return false; }

at::Tensor product(const at::Tensor&, const at::Tensor&, at::ScalarType) { TORCH_CHECK(false, "built without oneDNN"); }

void products(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) { TORCH_CHECK(false, "built without oneDNN"); }

#endif

}  // namespace cordon
