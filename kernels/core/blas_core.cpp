#include "kernels/core/blas_core.hpp"

#include <cblas.h>

#include <cstdlib>

namespace causeway {

std::string_view better_blas_core() {
#if defined(OPENBLAS_VERSION) && defined(__x86_64__)
  if (std::getenv("OPENBLAS_CORETYPE") != nullptr) return {};
  // These kernels are for CPUs without AVX: for a CPU with AVX they are never the right choice.
  const std::string_view chosen = openblas_get_corename();
  if (chosen != "Prescott" && chosen != "Core2" && chosen != "Nehalem" && chosen != "Generic") return {};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return {};
}

}  // namespace causeway
