#include "kernels/core/blas_core.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace causeway {
namespace {

TEST(BlasCore, KeepsTheUsersChoice) {
  const char* const before = std::getenv("OPENBLAS_CORETYPE");
  setenv("OPENBLAS_CORETYPE", "Prescott", 1);
  EXPECT_EQ(better_blas_core(), "");
  if (before == nullptr)
    unsetenv("OPENBLAS_CORETYPE");
  else
    setenv("OPENBLAS_CORETYPE", before, 1);
}

TEST(BlasCore, ReturnsOnlyCoresThatThisCpuSupports) {
  const std::string_view core = better_blas_core();
  EXPECT_TRUE(core.empty() || core == "SkylakeX" || core == "Haswell") << core;
#ifdef __x86_64__
  EXPECT_TRUE(core != "SkylakeX" || __builtin_cpu_supports("avx512f"));
  EXPECT_TRUE(core != "Haswell" || __builtin_cpu_supports("avx2"));
#endif
}

}  // namespace
}  // namespace causeway
