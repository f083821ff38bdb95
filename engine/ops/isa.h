// Which vectors the processor has, each kind with those before it.
#pragma once

namespace cordon {

enum class Isa { kBasic, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// What the processor has, or less where CORDON_FORCE_ISA (basic, avx2, avx512,
// avx512_bf16, amx) says so. Throws if that names anything else.
Isa isa();

// Its name, as CORDON_FORCE_ISA has it.
const char* isa_name();

}  // namespace cordon
