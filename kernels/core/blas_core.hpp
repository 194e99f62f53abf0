#pragma once

#include <string_view>

namespace causeway {

/// The value that OPENBLAS_CORETYPE should have had when OpenBLAS was loaded; empty if OpenBLAS chose well, if the user
/// set the variable, or if this build cannot tell.
///
/// OpenBLAS chooses its kernels by the CPU's model number when it is loaded, and reads OPENBLAS_CORETYPE only then. For
/// a CPU newer than itself it takes its oldest kernels: version 0.3.21 (Debian 12) uses those for CPUs without AVX on a
/// Xeon of 2023. That is a seventh of the speed: 14 instead of 99 GFLOP/s a core, for sgemm 4096×1024×1024.
std::string_view better_blas_core();

}  // namespace causeway
