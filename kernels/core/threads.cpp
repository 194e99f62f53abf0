#include "kernels/core/threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace causeway {

// OpenBLAS has threads of its own, which kernels/cpu/gemm.cpp leaves unused: it gives OpenMP's threads the tiles.
void set_threads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

}  // namespace causeway
