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
  int64_t rows = m.size(0) == 1 ? m.size(1) * m.stride(1) : m.stride(0);
  int64_t columns = m.size(1) == 1 ? (m.stride(0) == 1 ? m.size(0) : 1) : m.stride(1);
  if (m.size(0) == 1 && m.size(1) == 1) rows = columns = 1;
  return {rows, columns};
}

dnnl::memory::desc layout(const at::Tensor& m) {
  auto s = strides(m);
  return {{m.size(0), m.size(1)}, type_of(m.scalar_type()), {s[0], s[1]}};
}

dnnl::memory view(const dnnl::memory::desc& desc, const at::Tensor& m) { return {desc, cpu(), m.data_ptr()}; }

dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& a, const dnnl::memory::desc& b,
                                      const dnnl::memory::desc& c) {
#if DNNL_VERSION_MAJOR >= 3
  return {cpu(), a, b, c};
#else
  return {{a, b, c}, cpu()};
#endif
}

// A product made once for its shapes, types and layouts.
struct Product {
  dnnl::memory::desc a, b, c;
  dnnl::matmul matmul;
};

Product& find(const at::Tensor& a, const at::Tensor& b, at::ScalarType out) {
  static std::map<std::array<int64_t, 10>, Product> made;
  auto sa = strides(a), sb = strides(b);
  std::array<int64_t, 10> key = {a.size(0), a.size(1), b.size(1), sa[0], sa[1], sb[0], sb[1], (int64_t)a.scalar_type(),
                                 (int64_t)out, at::get_num_threads()};  // a product keeps the threads it was made for
  auto it = made.find(key);
  if (it == made.end()) {
    Product p{layout(a), layout(b), {{a.size(0), b.size(1)}, type_of(out), {b.size(1), 1}}, {}};
    p.matmul = dnnl::matmul(describe(p.a, p.b, p.c));
    it = made.emplace(key, std::move(p)).first;
  }
  return it->second;
}

}  // namespace

std::string product_library() {
  const dnnl_version_t* v = dnnl_version();
  return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

bool have_products() { return true; }

bool fast_bf16_products() { return isa() >= Isa::kAvx512; }

at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::ScalarType out) {
  auto& p = find(a, b, out);
  auto c = at::empty({a.size(0), b.size(1)}, a.options().dtype(out));
  p.matmul.execute(stream(), {{DNNL_ARG_SRC, view(p.a, a)}, {DNNL_ARG_WEIGHTS, view(p.b, b)}, {DNNL_ARG_DST, view(p.c, c)}});
  stream().wait();
  return c;
}

#else

std::string product_library() { return "no oneDNN"; }

bool have_products() { return false; }

bool fast_bf16_products() { return false; }

at::Tensor product(const at::Tensor&, const at::Tensor&, at::ScalarType) { TORCH_CHECK(false, "built without oneDNN"); }

#endif

}  // namespace cordon
