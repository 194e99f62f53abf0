#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace causeway::test {

/// Calls run() with `threads` OpenMP threads, then restores their number. Without OpenMP it only calls run().
template <class Run>
void with_threads([[maybe_unused]] int threads, Run&& run) {
#ifdef _OPENMP
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  run();
  omp_set_num_threads(before);
#else
  run();
#endif
}

}  // namespace causeway::test
