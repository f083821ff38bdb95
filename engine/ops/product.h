// Matrix products on oneDNN, which adds up in float whatever the type, and fast
// in every layout. ATen's own would go to the system's BLAS in fp32 (which may be
// the slow reference one) and round weight gradients to bf16.
#pragma once
#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace cordon {

// What computes the products, with its version.
std::string product_library();

// Whether the build has oneDNN: without it convolutions are better left to ATen.
bool have_products();

// Whether the processor has the vectors for bfloat16 products.
bool fast_bf16_products();

// A matrix somewhere in memory, or a dense batch of them: float or bfloat16. Of the
// strides (in elements) one is 1. Plain, for a tensor's view costs a microsecond.
struct Matrix {
  void* data;
  at::ScalarType type;
  int64_t rows, columns;
  int64_t row_stride, column_stride;
  int64_t batch = 0;  // 0 for a single one

  // A tensor's elements in the order of its memory.
  Matrix(const at::Tensor& t, int64_t rows, int64_t columns, int64_t batch = 0)
      : data(t.data_ptr()), type(t.scalar_type()), rows(rows), columns(columns), row_stride(columns), column_stride(1),
        batch(batch) {
    TORCH_CHECK(t.numel() >= std::max<int64_t>(batch, 1) * rows * columns, t.numel(), " elements are no ", rows, " x ", columns);
  }
  Matrix t() const {
    Matrix m = *this;
    std::swap(m.rows, m.columns);
    std::swap(m.row_stride, m.column_stride);
    return m;
  }
};

// The product of a (m × k) and b (k × n), both float or both bfloat16, into c (dense),
// or added to what c holds. Transposing an operand costs nothing. Only with
// have_products.
void product(const Matrix& a, const Matrix& b, const Matrix& c, bool add = false);

// What happens to a product as it is written: + bias (a value per column), + residual
// (of the product's shape, dense), then ReLU. Float; undefined for none.
struct Epilogue {
  at::Tensor bias, residual;
  bool relu = false;
};

// The right operand of many products, laid out as oneDNN likes it best. Float; `memory`
// holds b and is let go with the first product. Several threads may multiply by it at once.
class Packed {
 public:
  Packed() = default;  // no operand
  Packed(const at::Tensor& memory, const Matrix& b);
  void product(const Matrix& a, const Matrix& c, const Epilogue& e);  // a residual is in c already

 private:
  struct Orders;
  std::shared_ptr<Orders> orders_;
};

}  // namespace cordon
