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

// Of a dimension of one element the stride can be anything, and is made that of a dense one.
dnnl::memory::desc layout(const Matrix& m) {
  int64_t rows = m.rows == 1 ? m.columns * m.column_stride : m.row_stride;
  int64_t columns = m.columns == 1 ? (m.row_stride == 1 ? m.rows : 1) : m.column_stride;
  if (m.rows == 1 && m.columns == 1) rows = columns = 1;
  auto type = type_of(m.type);
  if (m.batch == 0) return {{m.rows, m.columns}, type, {rows, columns}};
  return {{m.batch, m.rows, m.columns}, type, {m.rows * m.columns, rows, columns}};
}

// Of a value per column.
dnnl::memory::desc row(int64_t columns) { return {{1, columns}, dnnl::memory::data_type::f32, {columns, 1}}; }

dnnl::memory place(const dnnl::memory::desc& desc, void* data) { return {desc, cpu(), data}; }

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

// A product made once for its shapes, types and layouts, with the places of its operands.
struct Product {
  dnnl::memory a, b, c;
  std::unordered_map<int, dnnl::memory> operands;
  dnnl::matmul matmul;

  Product(const dnnl::matmul::primitive_desc& described)
      : a(place(described.src_desc(), nullptr)), b(place(described.weights_desc(), nullptr)), c(place(described.dst_desc(), nullptr)),
        operands({{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}}), matmul(described) {}

  void run(void* in, void* weights, void* out) {
    a.set_data_handle(in);
    b.set_data_handle(weights);
    c.set_data_handle(out);
    matmul.execute(stream(), operands);
    stream().wait();
  }
};

}  // namespace

std::string product_library() {
  const dnnl_version_t* v = dnnl_version();
  return "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

bool have_products() { return true; }

bool fast_bf16_products() { return isa() >= Isa::kAvx512; }

void product(const Matrix& a, const Matrix& b, const Matrix& c, bool add) {
  TORCH_CHECK(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns && a.type == b.type, "no product of ", a.rows,
              " x ", a.columns, " and ", b.rows, " x ", b.columns);
  static std::map<std::array<int64_t, 12>, Product> made;
  std::array<int64_t, 12> key = {a.batch, a.rows, a.columns, b.columns, a.row_stride, a.column_stride, b.row_stride,
                                 b.column_stride, (int64_t)a.type, (int64_t)c.type, add,
                                 at::get_num_threads()};  // a product keeps the threads it was made for
  auto it = made.find(key);
  if (it == made.end()) {
    dnnl::post_ops sum;
    if (add) sum.append_sum();
    it = made.emplace(key, describe(layout(a), layout(b), {}, layout(c), sum)).first;
  }
  it->second.run(a.data, b.data, c.data);
}

struct Packed::Layout {
  at::Tensor memory;  // of the operand, in the order that desc says
  void* values;
  dnnl::memory::desc desc;
  std::map<std::array<int64_t, 5>, Product> made;

  // Moves the values to another order.
  void arrange(const dnnl::memory::desc& wanted) {
    if (desc == wanted) return;
    auto moved = at::empty({(int64_t)wanted.get_size()}, at::kByte);
    auto from = place(desc, values), to = place(wanted, moved.data_ptr());
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
    memory = moved;
    values = moved.data_ptr();
    desc = wanted;
  }

  Product& product_for(const Matrix& a, const Matrix& c, const Epilogue& e) {
    std::array<int64_t, 5> key = {a.rows, e.bias.defined(), e.residual.defined(), e.relu, at::get_num_threads()};
    auto it = made.find(key);
    if (it != made.end()) return it->second;
    auto any = dnnl::memory::desc(desc.dims(), dnnl::memory::data_type::f32, dnnl::memory::format_tag::any);
    dnnl::post_ops after;
    if (e.residual.defined()) after.append_sum();
    if (e.relu) append_relu(after);
    auto described = describe(layout(a), any, e.bias.defined() ? row(c.columns) : dnnl::memory::desc(), layout(c), after);
    auto& p = made.emplace(key, described).first->second;
    if (e.bias.defined()) p.operands.emplace(DNNL_ARG_BIAS, place(row(c.columns), e.bias.data_ptr()));
    return p;
  }
};

Packed::Packed(const at::Tensor& memory, const Matrix& b) : layout_(new Layout{memory, b.data, layout(b), {}}) {}

void Packed::product(const Matrix& a, const Matrix& c, const Epilogue& e) {
  auto dims = layout_->desc.dims();
  TORCH_CHECK(a.columns == dims[dims.size() - 2] && c.columns == dims.back() && a.rows == c.rows, "no product of ", a.rows, " x ",
              a.columns, " and ", dims);
  auto& p = layout_->product_for(a, c, e);
  layout_->arrange(p.b.get_desc());
  if (e.bias.defined()) p.operands.at(DNNL_ARG_BIAS).set_data_handle(e.bias.data_ptr());
  p.run(a.data, layout_->values, c.data);
}

#else

std::string product_library() { return "no oneDNN"; }

bool have_products() { return false; }

bool fast_bf16_products() { return false; }

void product(const Matrix&, const Matrix&, const Matrix&, bool) { TORCH_CHECK(false, "built without oneDNN"); }

Packed::Packed(const at::Tensor&, const Matrix&) { TORCH_CHECK(false, "built without oneDNN"); }

void Packed::product(const Matrix&, const Matrix&, const Epilogue&) { TORCH_CHECK(false, "built without oneDNN"); }

#endif

}  // namespace cordon
