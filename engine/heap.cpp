// A step of training makes and frees hundreds of large tensors. glibc serves
// threads other than the first from pieces of 64 MB: a run that needs 1.0 GB held 1.8.
// Here all share one region, lowest address first, scratch highest.
#include "heap.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>

namespace cordon {
namespace {

constexpr size_t kLarge = 64 << 10;  // bytes; smaller tensors are the default allocator's
constexpr size_t kAlignment = 64;
const c10::Device kCpu(c10::DeviceType::CPU);

class Heap final : public c10::Allocator {
 public:
  Heap(char* region, size_t size) : region_(region), size_(size), free_{{0, size}}, small_(c10::GetDefaultCPUAllocator()) {}

  // libtorch declares one of the two, by its release.
  c10::DataPtr allocate(size_t n) const { return const_cast<Heap*>(this)->take(n); }
  c10::DataPtr allocate(size_t n) { return take(n); }

  // The highest block that is free; nullptr for few bytes or if there is none.
  void* scratch(size_t n) {
    n = aligned(n);
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = free_.rbegin(); n >= kLarge && it != free_.rend(); ++it)
      if (it->second >= n) return use(std::prev(it.base()), it->second - n, n);
    return nullptr;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t n) const { std::memcpy(to, from, n); }

  static Heap* heap;  // libtorch frees by a plain function

  static void release(void* p) {
    char* at = static_cast<char*>(p);
    if (at >= heap->region_ && at < heap->region_ + heap->size_)
      heap->give_back(at - heap->region_);
    else
      c10::free_cpu(p);
  }

 private:
  static size_t aligned(size_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

  c10::DataPtr take(size_t n) {
    if (n < kLarge || n > size_) return small_->allocate(n);
    n = aligned(n);
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = free_.begin(); it != free_.end(); ++it)
      if (it->second >= n) {
        void* p = use(it, 0, n);
        return {p, p, &release, kCpu};
      }
    return small_->allocate(n);
  }

  // n bytes of a free block, some bytes from its begin; what lies on either side stays free.
  void* use(std::map<size_t, size_t>::iterator block, size_t before, size_t n) {
    auto [begin, size] = *block;
    free_.erase(block);
    if (before > 0) free_[begin] = before;
    if (size > before + n) free_[begin + before + n] = size - before - n;
    used_[begin + before] = n;
    return region_ + begin + before;
  }

  void give_back(size_t begin) {
    std::lock_guard<std::mutex> lock(mutex_);
    size_t size = used_.at(begin);
    used_.erase(begin);
    auto next = free_.lower_bound(begin);
    if (next != free_.end() && next->first == begin + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin())
      if (auto last = std::prev(next); last->first + last->second == begin) {
        last->second += size;
        return;
      }
    free_[begin] = size;
  }

  char* const region_;
  const size_t size_;
  std::mutex mutex_;
  std::map<size_t, size_t> free_;  // begin to size; no two touch
  std::unordered_map<size_t, size_t> used_;
  c10::Allocator* const small_;
};

Heap* Heap::heap;

}  // namespace

bool use_heap() {
  if (Heap::heap) return true;
  size_t size = (size_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  void* region = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return false;
  madvise(region, size, MADV_HUGEPAGE);
  Heap::heap = new Heap(static_cast<char*>(region), size);  // tensors may outlive any owner
  c10::SetCPUAllocator(Heap::heap);
  return true;
}

at::Tensor scratch(at::IntArrayRef sizes, at::ScalarType type) {
  size_t bytes = c10::multiply_integers(sizes) * c10::elementSize(type);
  void* p = Heap::heap ? Heap::heap->scratch(bytes) : nullptr;
  return p ? at::from_blob(p, sizes, &Heap::release, type) : at::empty(sizes, type);
}

}  // namespace cordon
