/* The C interface of cordon's engine: tensors, automatic differentiation and
 * the few operations that residual networks need, on top of libtorch.
 *
 * Rules
 * - Every call that makes tensors takes a scope. The scope owns what is made in
 *   it and frees it when it is closed; cordon_keep moves a tensor to another.
 * - Tensors are ids that are never used twice: a stale id is an error, not a
 *   crash. 0 is "no tensor".
 * - The first error of a scope sticks: later calls do nothing and return 0.
 *   No C++ exception crosses this interface, but for memory that runs out in
 *   opening a scope.
 * - The gradient mode, the device and the precision belong to the scope; no
 *   thread-local state outlives a call.
 * - All calls come from the engine's threads: the one that called cordon_init, and those that
 *   called cordon_threads. Several at once may read a tensor, and none changes it meanwhile.
 * - Memory passed in is copied before the call returns.
 * - Images are N × C × H × W, in channels-last memory.
 */
#ifndef CORDON_ENGINE_H
#define CORDON_ENGINE_H
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a signature or a meaning below changes. */
#define CORDON_ENGINE_ABI 10

typedef struct cordon_scope cordon_scope;
typedef int64_t cordon_tensor;

enum { CORDON_F32 = 0, CORDON_I64 = 1 };
enum { CORDON_CPU = -1 }; /* devices: CORDON_CPU, or the index of a CUDA device */
enum {
  CORDON_NORM_TRAIN = 0,  /* statistics of the batch, which update the running ones */
  CORDON_NORM_BATCH = 1,  /* statistics of the batch, running ones left alone */
  CORDON_NORM_RUNNING = 2 /* the running statistics: evaluation mode */
};

/* Process */
int32_t cordon_abi(void);
const char *cordon_torch_version(void);
const char *cordon_build_info(void);           /* compiler, libtorch, oneDNN */
const char *cordon_vectors(void);              /* that its operators use: basic, avx2, avx512, avx512_bf16, amx */
/* Claims the calling thread, sets the thread count and the allocator. Returns
 * NULL, or the error's text, valid until the next call. */
const char *cordon_init(int32_t threads);
void cordon_shutdown(void);                    /* gives the thread up again */
/* How many threads the operations that the calling thread asks for are divided among. It
 * becomes one of the engine's. */
void cordon_threads(int32_t threads);
int32_t cordon_cuda_devices(void);
int64_t cordon_live(void);                     /* tensors alive in all scopes */

/* Scopes */
cordon_scope *cordon_scope_new(int32_t device, int32_t grad, int32_t bf16);
void cordon_scope_close(cordon_scope *);
const char *cordon_scope_error(const cordon_scope *); /* NULL while all is well */
/* Moves a tensor, or the error of `from`, to another scope. */
cordon_tensor cordon_keep(cordon_scope *from, cordon_tensor, cordon_scope *to);

/* Data in and out. Host memory is row-major, whatever the tensor's layout. */
cordon_tensor cordon_from_host(cordon_scope *, const void *data, const int64_t *dims, int32_t ndim, int32_t dtype);
/* A float tensor in the layout that weights have, which collects gradients if asked to. */
cordon_tensor cordon_parameter(cordon_scope *, const float *data, const int64_t *dims, int32_t ndim, int32_t requires_grad);
void cordon_write(cordon_scope *, cordon_tensor, const void *data, int64_t bytes);
void cordon_read(cordon_scope *, cordon_tensor, void *data, int64_t bytes);
/* uint8 N × H × W × C to normalised float N × channels × H × W; one grey channel
 * is repeated. mean and std (in units of 0…1) have `channels` entries. */
cordon_tensor cordon_images(cordon_scope *, const uint8_t *pixels, int64_t n, int64_t h, int64_t w, int64_t c,
                            int64_t channels, const float *mean, const float *std);

/* Layers */
cordon_tensor cordon_conv2d(cordon_scope *, cordon_tensor x, cordon_tensor weight, int64_t stride, int64_t padding);
/* Batch norm, then + residual (if not 0), then ReLU (if asked). */
cordon_tensor cordon_batch_norm(cordon_scope *, cordon_tensor x, cordon_tensor weight, cordon_tensor bias,
                                cordon_tensor running_mean, cordon_tensor running_var, int32_t mode, double momentum,
                                double eps, cordon_tensor residual, int32_t relu);
/* Both, the convolution's output being nobody else's. In a scope without gradients the
 * residual is used up: its memory may become the result's. `around` (if not null) becomes x for
 * a path around the layer, whose gradient the layer then adds to its own. */
cordon_tensor cordon_conv_norm(cordon_scope *, cordon_tensor x, cordon_tensor kernel, int64_t stride, int64_t padding,
                               cordon_tensor weight, cordon_tensor bias, cordon_tensor running_mean,
                               cordon_tensor running_var, int32_t mode, double momentum, double eps,
                               cordon_tensor residual, int32_t relu, cordon_tensor *around);
/* With ReLU, and then the maximum of 3 × 3 values in steps of 2, padding 1. */
cordon_tensor cordon_conv_norm_pool(cordon_scope *, cordon_tensor x, cordon_tensor kernel, int64_t stride, int64_t padding,
                                    cordon_tensor weight, cordon_tensor bias, cordon_tensor running_mean,
                                    cordon_tensor running_var, int32_t mode, double momentum, double eps);
cordon_tensor cordon_add(cordon_scope *, cordon_tensor a, cordon_tensor b);
cordon_tensor cordon_max_pool2d(cordon_scope *, cordon_tensor x, int64_t kernel, int64_t stride, int64_t padding);
cordon_tensor cordon_global_avg_pool(cordon_scope *, cordon_tensor x); /* N × C × H × W to N × C */
cordon_tensor cordon_linear(cordon_scope *, cordon_tensor x, cordon_tensor weight, cordon_tensor bias);
cordon_tensor cordon_matmul(cordon_scope *, cordon_tensor a, cordon_tensor b);

/* Losses */
cordon_tensor cordon_cross_entropy(cordon_scope *, cordon_tensor logits, cordon_tensor labels); /* per sample */
/* Per sample −log(1 − p), p the probability of the label: what cross-entropy is
 * for learning a label, this is for unlearning it. */
cordon_tensor cordon_unlikelihood(cordon_scope *, cordon_tensor logits, cordon_tensor labels);
/* x where reference < bound, else 0; no gradient flows to the reference. */
cordon_tensor cordon_mask_below(cordon_scope *, cordon_tensor x, cordon_tensor reference, double bound);
cordon_tensor cordon_rows(cordon_scope *, cordon_tensor x, int64_t begin, int64_t count);
cordon_tensor cordon_mean(cordon_scope *, cordon_tensor x);
cordon_tensor cordon_scale(cordon_scope *, cordon_tensor x, double factor);
cordon_tensor cordon_argmax(cordon_scope *, cordon_tensor x); /* over the last dimension */

/* Learning */
void cordon_backward(cordon_scope *, cordon_tensor loss);
cordon_tensor cordon_grad(cordon_scope *, cordon_tensor); /* an error where there is none */
/* backward and one step of SGD as PyTorch defines it: each parameter is moved as soon as its
 * gradient is known, and the gradient dropped. velocity may hold 0 where momentum is 0.
 * Parameters that the loss does not depend on are left alone. */
void cordon_descend(cordon_scope *, cordon_tensor loss, const cordon_tensor *params, const cordon_tensor *velocity,
                    int32_t count, double rate, double momentum, double weight_decay, int32_t nesterov);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
