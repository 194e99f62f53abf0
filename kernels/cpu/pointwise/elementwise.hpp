#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/core/integer.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway::cpu {

/// Elements a thread takes at a time, and below which a second thread does not pay. Fixed, so that where a vector loop
/// ends and its remainder begins, and with it every bit of the result, does not depend on the number of threads.
inline constexpr std::int64_t run_length = 4096;

/// Calls body(row, column, count) for runs of elements that are contiguous in every one of `tensors` (all of one
/// shape), in parallel: element i of a run is x.row<T>(row)[column + i]. Where all are dense the whole is one row.
template <class Body>
void for_each_run(std::initializer_list<TensorView> tensors, const Body& body) {
  const TensorView& first = *tensors.begin();
  bool dense = true;
  for (const TensorView& x : tensors) {
    ensure(x.shape == first.shape, "tensors {} and {} differ in shape", x.shape.to_string(), first.shape.to_string());
    dense = dense && x.dense();
  }
  if (first.size() == 0) return;
  const std::int64_t rows = dense ? 1 : first.rows(), columns = dense ? first.size() : first.columns();
  const std::int64_t runs = ceil_div(columns, run_length);
#pragma omp parallel for schedule(static) if (first.size() > 4 * run_length)
  for (std::int64_t i = 0; i < rows * runs; ++i) {
    const std::int64_t column = i % runs * run_length;
    body(i / runs, column, std::min(run_length, columns - column));
  }
}

}  // namespace causeway::cpu
