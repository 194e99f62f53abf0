#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

/// The number and the index of a kernel's OpenMP threads, so that each thread can have its own scratch memory.
namespace causeway::cpu {

/// Multiply-adds or state updates below which a second thread costs more time than it saves.
inline constexpr std::int64_t min_parallel_work = 1 << 14;

/// The largest number of threads of the next parallel region; 1 without OpenMP.
inline int thread_count() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// The calling thread's index in its parallel region; 0 without OpenMP.
inline int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace causeway::cpu
