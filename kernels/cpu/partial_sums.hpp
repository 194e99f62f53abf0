#pragma once

#include <cstdint>

/// Sums over tokens that several threads compute: each thread writes partial sums of fixed parts of the work, and these
/// functions add the parts in rising order. The parts depend only on shapes, so that the result has the same bits on
/// any number of threads.
namespace causeway::cpu {

/// Σ_p first[p · stride] over `parts` partial sums, from zero.
template <class R>
R sum_of_parts(const R* first, std::int64_t parts, std::int64_t stride) {
  R sum = 0;
  for (std::int64_t part = 0; part < parts; ++part) sum += first[part * stride];
  return sum;
}

/// to[i] += first[p · stride + i] for each part p in turn: rows of `count` partial sums, added to what `to` holds.
template <class R>
void add_parts(R* to, std::int64_t count, const R* first, std::int64_t parts, std::int64_t stride) {
  for (std::int64_t part = 0; part < parts; ++part) {
    const R* const from = first + part * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
  }
}

}  // namespace causeway::cpu
