#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

/// The OpenMP threads that a kernel may count on, for scratch memory one a thread: 1, and 0, without OpenMP.
namespace causeway::cpu {

inline int thread_count() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

inline int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace causeway::cpu
