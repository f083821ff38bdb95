#include "isa.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cordon {
namespace {

constexpr const char* kNames[] = {"basic", "avx2", "avx512", "avx512_bf16", "amx"};
// The same in oneDNN's words.
constexpr const char* kOneDnn[] = {"SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "AVX512_CORE_AMX"};

#if defined(__x86_64__)
// Bits of cpuid that g++ 12 has no name for.
bool has(unsigned leaf, unsigned subleaf, unsigned bit, bool edx) {
  unsigned a, b, c, d;
  return __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d) && ((edx ? d : a) >> bit & 1);
}

// Linux lends a process the tiles of AMX on request.
bool lent_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
#ifdef SYS_arch_prctl
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}
#endif

Isa detect() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) return Isa::kBasic;
  if (!(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
    return Isa::kAvx2;
  if (!has(7, 1, 5, false)) return Isa::kAvx512;                     // AVX512_BF16
  return has(7, 0, 22, true) && lent_tiles() ? Isa::kAmx : Isa::kAvx512Bf16;  // AMX-BF16
#else
  return Isa::kBasic;
#endif
}

// What oneDNN's own switch leaves: the products that it makes decide.
Isa allowed(Isa best) {
  const char* name = std::getenv("ONEDNN_MAX_CPU_ISA");  // which oneDNN reads first
  if (!name || !*name) name = std::getenv("DNNL_MAX_CPU_ISA");
  if (!name || !*name) return best;
  std::string s(name);
  for (auto& c : s) c = (char)std::toupper((unsigned char)c);
  Isa most = s.find("AMX") != s.npos || s == "ALL" || s == "DEFAULT"      ? Isa::kAmx
             : s.find("BF16") != s.npos || s.find("FP16") != s.npos ? Isa::kAvx512Bf16
             : s.find("AVX512_CORE") == 0                           ? Isa::kAvx512
             : s.find("AVX2") == 0                                  ? Isa::kAvx2
             : s == "SSE41" || s == "AVX" || s == "AVX512_MIC"      ? Isa::kBasic
                                                                    : best;
  return std::min(best, most);
}

Isa limited() {
  Isa best = allowed(detect());
#ifndef CORDON_ONEDNN  // bf16 products would be ATen's, and slow
  best = std::min(best, Isa::kAvx512);
#endif
  const char* name = std::getenv("CORDON_FORCE_ISA");
  if (!name || !*name) return best;
  for (int i = 0; i <= (int)Isa::kAmx; i++)
    if (!std::strcmp(name, kNames[i])) {
      Isa forced = std::min((Isa)i, best);
      setenv("ONEDNN_MAX_CPU_ISA", kOneDnn[(int)forced], 1);  // no more than it allows already
      return forced;
    }
  throw std::runtime_error(std::string("CORDON_FORCE_ISA=") + name + ": want basic, avx2, avx512, avx512_bf16 or amx");
}

}  // namespace

Isa isa() {
  static const Isa found = limited();
  return found;
}

const char* isa_name() { return kNames[(int)isa()]; }

}  // namespace cordon
