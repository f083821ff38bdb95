// Memory for large tensors.
#pragma once

namespace cordon {

// Makes libtorch take the memory of large CPU tensors from a heap of its own, once
// for the process: in pages of 2 MB where the kernel has them, and kept when a
// tensor dies. Without address space for it nothing changes.
void use_heap();

}  // namespace cordon
