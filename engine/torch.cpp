// The engine's C interface on libtorch. One source for 1.13 and 2.x.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <omp.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cordon_engine.h"
#include "heap.h"
#include "ops/isa.h"
#include "ops/ops.h"
#include "ops/product.h"

struct cordon_scope {
  at::Device device = at::kCPU;
  bool grad = false;
  bool bf16 = false;
  std::string error;
  std::vector<cordon_tensor> owned;
};

namespace {

std::atomic<bool> is_open;
thread_local bool is_engines;  // whether the thread is one of the engine's
std::string init_error;
std::mutex mutex;  // of the two below
std::unordered_map<cordon_tensor, at::Tensor> live;
cordon_tensor next_id = 0;  // ids are never used twice

cordon_tensor own(cordon_scope* s, at::Tensor t) {
  std::lock_guard<std::mutex> lock(mutex);
  live.emplace(++next_id, std::move(t));
  s->owned.push_back(next_id);
  return next_id;
}

at::Tensor& get(cordon_tensor id) {
  std::lock_guard<std::mutex> lock(mutex);
  auto it = live.find(id);
  TORCH_CHECK(it != live.end(), id == 0 ? "a tensor is missing" : "a tensor of a closed scope was used");
  return it->second;
}

at::Tensor get_or_none(cordon_tensor id) { return id == 0 ? at::Tensor() : get(id); }

// Runs one operation: nothing after the scope's first error, no exception out,
// no thread-local state left behind.
template <class F>
void guarded(cordon_scope* s, const char* name, F f) {
  if (!s->error.empty()) return;
  try {
    TORCH_CHECK(is_engines, "called off the engine thread");
    c10::AutoGradMode mode(s->grad);
    f();
  } catch (const c10::Error& e) {
    s->error = std::string(name) + ": " + e.what_without_backtrace();
  } catch (const std::exception& e) {
    s->error = std::string(name) + ": " + e.what();
  } catch (...) {
    s->error = std::string(name) + ": unknown C++ exception";
  }
}

template <class F>
cordon_tensor made(cordon_scope* s, const char* name, F f) {
  cordon_tensor id = 0;
  guarded(s, name, [&] { id = own(s, f()); });
  return id;
}

at::ScalarType scalar_type(int32_t dtype) {
  switch (dtype) {
    case CORDON_F32: return at::kFloat;
    case CORDON_I64: return at::kLong;
  }
  TORCH_CHECK(false, "unknown element type ", dtype);
}

at::Tensor host_view(const void* data, at::IntArrayRef dims, at::ScalarType type) {
  return at::from_blob(const_cast<void*>(data), dims, at::TensorOptions().dtype(type));
}

// Convolutions and linear layers compute in the scope's precision; autograd
// casts the gradients of fp32 weights back.
at::Tensor in_precision(const cordon_scope* s, const at::Tensor& t) { return s->bf16 ? t.to(at::kBFloat16) : t; }

// The logits without the label's: what remains of the softmax is 1 − p.
at::Tensor others(const at::Tensor& logits, const at::Tensor& labels) {
  return logits.scatter(1, labels.unsqueeze(1), -std::numeric_limits<float>::infinity());
}

cordon::Norm norm_of(cordon_tensor weight, cordon_tensor bias, cordon_tensor mean, cordon_tensor var, int32_t mode,
                     double momentum, double eps) {
  TORCH_CHECK(mode >= CORDON_NORM_TRAIN && mode <= CORDON_NORM_RUNNING, "unknown batch norm mode ", mode);
  bool alone = mode == CORDON_NORM_BATCH;
  return {get(weight), get(bias), alone ? at::Tensor() : get(mean), alone ? at::Tensor() : get(var),
          (cordon::NormMode)mode, momentum, eps};
}

// uint8 N·H·W·C to float N·H·W·channels by table: one lookup a value.
void normalize(const uint8_t* in, float* out, int64_t pixels, int64_t c, int64_t channels, const float* mean,
               const float* std) {
  std::vector<float> table(256 * channels);
  for (int64_t k = 0; k < channels; k++)
    for (int v = 0; v < 256; v++) table[k * 256 + v] = (v / 255.0f - mean[k]) / std[k];
  const float* lut = table.data();
  at::parallel_for(0, pixels, 1 << 14, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t k = 0; k < channels; k++) out[i * channels + k] = lut[k * 256 + in[i * c + (c == 1 ? 0 : k)]];
  });
}

}  // namespace

extern "C" {

int32_t cordon_abi(void) { return CORDON_ENGINE_ABI; }
const char* cordon_torch_version(void) { return TORCH_VERSION; }
const char* cordon_build_info(void) {
  static const std::string info = "g++ " __VERSION__ ", libtorch " TORCH_VERSION ", " + cordon::product_library();
  return info.c_str();
}
const char* cordon_vectors(void) {
  try {
    return cordon::isa_name();
  } catch (...) {
    return "";  // cordon_init says why
  }
}

const char* cordon_init(int32_t threads) {
  init_error.clear();
  try {
    TORCH_CHECK(!is_open, "the engine is already open in this process");
    TORCH_CHECK(threads >= 1, "thread count must be at least 1, not ", threads);
    cordon::isa();
    cordon::use_heap();
    at::globalContext().setDeterministicCuDNN(true);
    at::globalContext().setBenchmarkCuDNN(false);
    cordon_threads(threads);
    is_open = true;
    return nullptr;
  } catch (const c10::Error& e) {
    init_error = e.what_without_backtrace();
  } catch (const std::exception& e) {
    init_error = e.what();
  } catch (...) {
    init_error = "unknown C++ exception";
  }
  return init_error.c_str();
}

void cordon_shutdown(void) {
  cordon::drop_kept_kernels();
  is_open = is_engines = false;
}

void cordon_threads(int32_t threads) {
  at::set_num_threads(threads);
  omp_set_num_threads(threads);  // a libtorch with an OpenMP of its own does not tell ours
  is_engines = true;
}

int32_t cordon_cuda_devices(void) {
  try {
    return (int32_t)torch::cuda::device_count();
  } catch (...) {
    return 0;
  }
}
int64_t cordon_live(void) {
  std::lock_guard<std::mutex> lock(mutex);
  return (int64_t)live.size();
}

cordon_scope* cordon_scope_new(int32_t device, int32_t grad, int32_t bf16) {
  auto* s = new cordon_scope();
  if (device != CORDON_CPU) s->device = at::Device(at::kCUDA, (c10::DeviceIndex)device);
  s->grad = grad != 0;
  s->bf16 = bf16 != 0;
  return s;
}

void cordon_scope_close(cordon_scope* s) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto id : s->owned) live.erase(id);
  }
  delete s;
}

const char* cordon_scope_error(const cordon_scope* s) { return s->error.empty() ? nullptr : s->error.c_str(); }

cordon_tensor cordon_keep(cordon_scope* from, cordon_tensor t, cordon_scope* to) {
  guarded(from, "keep", [&] {
    auto it = std::find(from->owned.begin(), from->owned.end(), t);
    TORCH_CHECK(it != from->owned.end(), "the tensor is not this scope's");
    from->owned.erase(it);
    to->owned.push_back(t);
  });
  if (from->error.empty()) return t;
  if (to->error.empty()) to->error = from->error;
  return 0;
}

cordon_tensor cordon_from_host(cordon_scope* s, const void* data, const int64_t* dims, int32_t ndim, int32_t dtype) {
  return made(s, "from_host", [&] {
    return host_view(data, {dims, (size_t)ndim}, scalar_type(dtype)).to(s->device, false, /*copy=*/true);
  });
}

cordon_tensor cordon_parameter(cordon_scope* s, const float* data, const int64_t* dims, int32_t ndim,
                               int32_t requires_grad) {
  return made(s, "parameter", [&] {
    auto t = host_view(data, {dims, (size_t)ndim}, at::kFloat).to(s->device, false, /*copy=*/true);
    if (ndim == 4) t = t.contiguous(at::MemoryFormat::ChannelsLast);
    return t.requires_grad_(requires_grad != 0);
  });
}

void cordon_write(cordon_scope* s, cordon_tensor t, const void* data, int64_t bytes) {
  guarded(s, "write", [&] {
    c10::AutoGradMode off(false);
    auto& dst = get(t);
    TORCH_CHECK((int64_t)dst.nbytes() == bytes, "the tensor has ", dst.nbytes(), " bytes, not ", bytes);
    dst.copy_(host_view(data, dst.sizes(), dst.scalar_type()));
  });
}

void cordon_read(cordon_scope* s, cordon_tensor t, void* data, int64_t bytes) {
  guarded(s, "read", [&] {
    auto src = get(t).detach().to(at::kCPU).contiguous();
    TORCH_CHECK((int64_t)src.nbytes() == bytes, "the tensor has ", src.nbytes(), " bytes, not ", bytes);
    std::memcpy(data, src.data_ptr(), bytes);
  });
}

cordon_tensor cordon_images(cordon_scope* s, const uint8_t* pixels, int64_t n, int64_t h, int64_t w, int64_t c,
                            int64_t channels, const float* mean, const float* std) {
  return made(s, "images", [&] {
    TORCH_CHECK(c == channels || c == 1, "cannot make ", channels, " channels of ", c);
    auto x = at::empty({n, channels, h, w}, at::TensorOptions().dtype(at::kFloat).memory_format(at::MemoryFormat::ChannelsLast));
    normalize(pixels, x.data_ptr<float>(), n * h * w, c, channels, mean, std);
    return x.to(s->device);
  });
}

cordon_tensor cordon_conv2d(cordon_scope* s, cordon_tensor x, cordon_tensor weight, int64_t stride, int64_t padding) {
  return made(s, "conv2d", [&] {
    return cordon::conv2d(in_precision(s, get(x)), get(weight), stride, padding);
  });
}

cordon_tensor cordon_batch_norm(cordon_scope* s, cordon_tensor x, cordon_tensor weight, cordon_tensor bias,
                                cordon_tensor running_mean, cordon_tensor running_var, int32_t mode, double momentum,
                                double eps, cordon_tensor residual, int32_t relu) {
  return made(s, "batch_norm", [&] {
    return cordon::batch_norm(get(x), norm_of(weight, bias, running_mean, running_var, mode, momentum, eps),
                              get_or_none(residual), relu != 0);
  });
}

cordon_tensor cordon_conv_norm(cordon_scope* s, cordon_tensor x, cordon_tensor kernel, int64_t stride, int64_t padding,
                               cordon_tensor weight, cordon_tensor bias, cordon_tensor running_mean,
                               cordon_tensor running_var, int32_t mode, double momentum, double eps,
                               cordon_tensor residual, int32_t relu, cordon_tensor* around) {
  return made(s, "conv_norm", [&] {
    auto norm = norm_of(weight, bias, running_mean, running_var, mode, momentum, eps);
    at::Tensor other;
    auto y = cordon::conv_norm(in_precision(s, get(x)), get(kernel), stride, padding, norm, get_or_none(residual), relu != 0,
                               around ? &other : nullptr);
    if (around) *around = own(s, other);
    return y;
  });
}

cordon_tensor cordon_conv_norm_pool(cordon_scope* s, cordon_tensor x, cordon_tensor kernel, int64_t stride, int64_t padding,
                                    cordon_tensor weight, cordon_tensor bias, cordon_tensor running_mean,
                                    cordon_tensor running_var, int32_t mode, double momentum, double eps) {
  return made(s, "conv_norm_pool", [&] {
    auto norm = norm_of(weight, bias, running_mean, running_var, mode, momentum, eps);
    return cordon::conv_norm_pool(in_precision(s, get(x)), get(kernel), stride, padding, norm);
  });
}

cordon_tensor cordon_add(cordon_scope* s, cordon_tensor a, cordon_tensor b) {
  return made(s, "add", [&] { return get(a).add(get(b)); });
}

cordon_tensor cordon_max_pool2d(cordon_scope* s, cordon_tensor x, int64_t kernel, int64_t stride, int64_t padding) {
  return made(s, "max_pool2d",
              [&] { return at::max_pool2d(get(x), {kernel, kernel}, {stride, stride}, {padding, padding}); });
}

cordon_tensor cordon_global_avg_pool(cordon_scope* s, cordon_tensor x) {
  return made(s, "global_avg_pool", [&] { return at::adaptive_avg_pool2d(get(x), {1, 1}).flatten(1); });
}

cordon_tensor cordon_linear(cordon_scope* s, cordon_tensor x, cordon_tensor weight, cordon_tensor bias) {
  return made(s, "linear", [&] {
    auto a = in_precision(s, get(x)), w = in_precision(s, get(weight)), b = in_precision(s, get(bias));
    if (a.is_cpu() && !cordon::fast_bf16_products()) return at::linear(a.to(at::kFloat), w.to(at::kFloat), b.to(at::kFloat));
    return at::linear(a, w, b).to(at::kFloat);
  });
}

cordon_tensor cordon_matmul(cordon_scope* s, cordon_tensor a, cordon_tensor b) {
  return made(s, "matmul", [&] { return at::matmul(get(a), get(b)); });
}

// −log p as log(1 + e^m), m the log-sum of the other classes' exponentials less
// the label's logit: exact where p is near 1, where log-softmax rounds every
// loss to 0 and the ranking of the easiest samples would be lost.
cordon_tensor cordon_cross_entropy(cordon_scope* s, cordon_tensor logits, cordon_tensor labels) {
  return made(s, "cross_entropy", [&] {
    const auto& z = get(logits);
    const auto& y = get(labels);
    return at::softplus(others(z, y).logsumexp(1) - z.gather(1, y.unsqueeze(1)).squeeze(1));
  });
}

cordon_tensor cordon_unlikelihood(cordon_scope* s, cordon_tensor logits, cordon_tensor labels) {
  return made(s, "unlikelihood", [&] {
    const auto& z = get(logits);
    const auto& y = get(labels);
    return at::softplus(z.gather(1, y.unsqueeze(1)).squeeze(1) - others(z, y).logsumexp(1));
  });
}

cordon_tensor cordon_mask_below(cordon_scope* s, cordon_tensor x, cordon_tensor reference, double bound) {
  return made(s, "mask_below", [&] { return get(x).masked_fill(get(reference).detach().ge(bound), 0); });
}

cordon_tensor cordon_rows(cordon_scope* s, cordon_tensor x, int64_t begin, int64_t count) {
  return made(s, "rows", [&] { return get(x).narrow(0, begin, count); });
}

cordon_tensor cordon_mean(cordon_scope* s, cordon_tensor x) {
  return made(s, "mean", [&] { return get(x).mean(); });
}

cordon_tensor cordon_scale(cordon_scope* s, cordon_tensor x, double factor) {
  return made(s, "scale", [&] { return get(x).mul(factor); });
}

cordon_tensor cordon_argmax(cordon_scope* s, cordon_tensor x) {
  return made(s, "argmax", [&] { return get(x).argmax(-1); });
}

void cordon_backward(cordon_scope* s, cordon_tensor loss) {
  guarded(s, "backward", [&] { get(loss).backward(); });
}

cordon_tensor cordon_grad(cordon_scope* s, cordon_tensor t) {
  return made(s, "grad", [&] {
    const auto& g = get(t).grad();
    TORCH_CHECK(g.defined(), "the tensor has no gradient");
    return g;
  });
}

void cordon_descend(cordon_scope* s, cordon_tensor loss, const cordon_tensor* params, const cordon_tensor* velocity,
                    int32_t count, double rate, double momentum, double weight_decay, int32_t nesterov) {
  guarded(s, "descend", [&] {
    std::vector<at::Tensor> p, v;
    for (int32_t i = 0; i < count; i++) {
      p.push_back(get(params[i]));
      v.push_back(get_or_none(velocity[i]));
    }
    cordon::descend(get(loss), p, v, {rate, momentum, weight_decay, nesterov != 0});
  });
}

}  // extern "C"
