#include "kernels/threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace causeway {

// OpenBLAS takes its own number from the machine; kernels/cpu/gemm.cpp sets it to OpenMP's around its calls.
void set_threads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

}  // namespace causeway
