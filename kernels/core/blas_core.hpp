#pragma once

#include <string_view>

namespace causeway {

/// OpenBLAS chooses its kernels by the CPU's model number when it is loaded, and takes its oldest for a model younger
/// than itself: 0.3.21 (Debian 12) runs the kernels of 2004 on a Xeon of 2023, a seventh of the speed (14 instead of 99
/// GFLOP/s a core, sgemm 4096×1024×1024). Returns what OPENBLAS_CORETYPE, which OpenBLAS reads at that moment alone,
/// should have been; empty where the choice was right, was the user's or is not ours to judge.
std::string_view better_blas_core();

}  // namespace causeway
