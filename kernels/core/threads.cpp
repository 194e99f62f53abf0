#include "kernels/core/threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace causeway {

// OpenBLAS's own threads are unused: kernels/cpu/gemm.cpp distributes tiles of a product over OpenMP's threads.
void set_threads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

}  // namespace causeway
