#include "product.h"

#include "isa.h"

#ifdef CORDON_ONEDNN
#include <ATen/Parallel.h>

#include <array>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>
#endif

namespace cordon {

#ifdef CORDON_ONEDNN
namespace {

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& stream() {
  thread_local dnnl::stream stream(cpu());
  return stream;
}

dnnl::memory::data_type type_of(at::ScalarType t) {
  TORCH_CHECK(t == at::kFloat || t == at::kBFloat16, "products are of float or bfloat16, not ", t);
  return t == at::kFloat ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

dnnl::memory::dims dims_of(const Matrix& m) {
  return m.batch == 0 ? dnnl::memory::dims{m.rows, m.columns} : dnnl::memory::dims{m.batch, m.rows, m.columns};
}

// Of a dimension of one element the stride can be anything, and is made that of a dense one.
dnnl::memory::desc layout(const Matrix& m) {
  int64_t rows = m.rows == 1 ? m.columns * m.column_stride : m.row_stride;
  int64_t columns = m.columns == 1 ? (m.row_stride == 1 ? m.rows : 1) : m.column_stride;
  if (m.rows == 1 && m.columns == 1) rows = columns = 1;
  auto type = type_of(m.type);
  if (m.batch == 0) return {dims_of(m), type, {rows, columns}};
  return {dims_of(m), type, {m.rows * m.columns, rows, columns}};
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

// A product made once for its shapes, types and layouts, with the places of its operands: every
// thread has its own.
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

// A product by an operand in the order that oneDNN likes best.
Product& packed_product(const dnnl::memory::dims& dims, const Matrix& a, const Matrix& c, const Epilogue& e) {
  thread_local std::map<std::array<int64_t, 8>, Product> made;
  std::array<int64_t, 8> key = {a.batch, a.rows, a.columns, c.columns, e.bias.defined(), e.residual.defined(), e.relu,
                                at::get_num_threads()};
  auto it = made.find(key);
  if (it != made.end()) return it->second;
  auto any = dnnl::memory::desc(dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::any);
  dnnl::post_ops after;
  if (e.residual.defined()) after.append_sum();
  if (e.relu) append_relu(after);
  auto bias = e.bias.defined() ? row(c.columns) : dnnl::memory::desc();
  auto& p = made.emplace(key, describe(layout(a), any, bias, layout(c), after)).first->second;
  if (e.bias.defined()) p.operands.emplace(DNNL_ARG_BIAS, place(bias, nullptr));
  return p;
}

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
  thread_local std::map<std::array<int64_t, 12>, Product> made;
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

struct Packed::Orders {
  struct Values {
    dnnl::memory::desc order;
    at::Tensor memory;
    void* data;
    bool used;
  };
  const dnnl::memory::dims dims;
  std::mutex mutex;
  std::vector<Values> all;

  // The values in an order; those that no product has used are let go.
  void* in(const dnnl::memory::desc& order) {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto& v : all)
      if (v.order == order) {
        v.used = true;
        return v.data;
      }
    auto moved = at::empty({(int64_t)order.get_size()}, at::kByte);
    auto from = place(all[0].order, all[0].data), to = place(order, moved.data_ptr());
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
    if (!all[0].used) all.clear();
    all.push_back({order, moved, moved.data_ptr(), true});
    return moved.data_ptr();
  }
};

Packed::Packed(const at::Tensor& memory, const Matrix& b) : orders_(new Orders{dims_of(b), {}, {{layout(b), memory, b.data, false}}}) {}

void Packed::product(const Matrix& a, const Matrix& c, const Epilogue& e) {
  const auto& dims = orders_->dims;
  TORCH_CHECK(a.columns == dims[dims.size() - 2] && c.columns == dims.back() && a.rows == c.rows, "no product of ", a.rows, " x ",
              a.columns, " and ", dims);
  auto& p = packed_product(dims, a, c, e);
  if (e.bias.defined()) p.operands.at(DNNL_ARG_BIAS).set_data_handle(e.bias.data_ptr());
  p.run(a.data, orders_->in(p.b.get_desc()), c.data);
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
