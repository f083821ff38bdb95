// Which vectors the processor has, each kind with those before it.
#pragma once

// Compiles a function of simple loops for each kind; the loader picks one, whatever
// CORDON_FORCE_ISA says.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CORDON_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CORDON_VECTORS
#endif

namespace cordon {

enum class Isa { kBasic, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// What the processor has (as g++ tells it: basic with other compilers) and, of AMX,
// Linux lends; or less where CORDON_FORCE_ISA (basic, avx2, avx512, avx512_bf16,
// amx) or oneDNN's own ONEDNN_MAX_CPU_ISA or DNNL_MAX_CPU_ISA says so, and at most
// avx512 without oneDNN. The first call tells oneDNN, so it comes before any work.
// Throws if the name is none of these.
Isa isa();

// Its name, as CORDON_FORCE_ISA has it.
const char* isa_name();

}  // namespace cordon
