// Memory for large tensors.
#pragma once
#include <ATen/ATen.h>

namespace cordon {

// Makes libtorch take the memory of large CPU tensors from a heap of its own, once
// for the process: in pages of 2 MB where the kernel has them, and kept when a
// tensor dies. False, and nothing changes, without address space for it.
bool use_heap();

// A CPU tensor for values that do not outlive an operation. Its memory is at the heap's other
// end: that of tensors moves on with every layer's, which are kept for the backward
// pass, and would be out of the cache whenever it is used again.
at::Tensor scratch(at::IntArrayRef sizes, at::ScalarType type);

}  // namespace cordon
