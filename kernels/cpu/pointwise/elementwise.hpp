#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/core/integer.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway::cpu {

/// Elements that a thread takes at a time. Fixed: so the end of a vectorized loop and its remainder, and with them
/// every bit of the result, do not depend on the number of threads.
inline constexpr std::int64_t span_length = 4096;

/// Calls body(row, column, count), in parallel, for spans of at most span_length elements that are contiguous in each
/// of `tensors`: element i of a span is x.row<T>(row)[column + i]. If all tensors are dense, they count as one row.
/// Throws Error(internal) unless all tensors have one shape.
template <class Body>
void for_each_span(std::initializer_list<TensorView> tensors, const Body& body) {
  const TensorView& first = *tensors.begin();
  bool dense = true;
  for (const TensorView& x : tensors) {
    ensure(x.shape == first.shape, "tensors {} and {} differ in shape", x.shape.to_string(), first.shape.to_string());
    dense = dense && x.dense();
  }
  if (first.size() == 0) return;
  const std::int64_t rows = dense ? 1 : first.rows(), columns = dense ? first.size() : first.columns();
  const std::int64_t spans = ceil_div(columns, span_length);
#pragma omp parallel for schedule(static) if (first.size() > 4 * span_length)
  for (std::int64_t i = 0; i < rows * spans; ++i) {
    const std::int64_t column = i % spans * span_length;
    body(i / spans, column, std::min(span_length, columns - column));
  }
}

}  // namespace causeway::cpu
