// Matrix products on oneDNN, which adds up in float whatever the type, and fast
// in every layout. ATen's own would go to the system's BLAS in fp32 (which may be
// the slow reference one) and round weight gradients to bf16.
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <string>

namespace cordon {

// What computes the products, with its version.
std::string product_library();

// Whether the build has oneDNN: without it convolutions are better left to ATen.
bool have_products();

// Whether the processor has the vectors for bfloat16 products.
bool fast_bf16_products();

// a (m × k) times b (k × n), both float or both bfloat16, as the type `out`. Of
// each operand's strides one is 1: a transposed view costs nothing. Only with
// have_products, and on the engine's one thread.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, at::ScalarType out);

// The products of two dense batches of matrices (batch × m × k and batch × k × n,
// or transposed views of such) into a third, or added to what it holds.
void products(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, bool add);

// What happens to a product as it is written: + bias (a value per column), + residual
// (of the product's shape, dense; its memory may become the product's), then ReLU.
// Float; undefined for none.
struct Epilogue {
  at::Tensor bias, residual;
  bool relu = false;
};

// The right operand of many products, laid out as oneDNN likes it best. A matrix or a
// batch of them, float; b's memory is let go with the first product.
class Packed {
 public:
  Packed() = default;  // no operand
  explicit Packed(const at::Tensor& b);
  at::Tensor product(const at::Tensor& a, const Epilogue& e);
  void products(const at::Tensor& a, const at::Tensor& c);  // of a batch, into c (dense)

 private:
  struct Layout;
  std::shared_ptr<Layout> layout_;
};

}  // namespace cordon
