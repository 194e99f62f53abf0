#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/check.cuh"
#include "kernels/tensor.hpp"

namespace causeway::cuda {

/// A view as a kernel indexes it.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;

  explicit Rows(TensorView x) : data(static_cast<T*>(x.data)), stride(x.row_stride) {}
  __device__ T& operator()(std::int64_t row, std::int64_t column) const { return data[row * stride + column]; }
};

template <class Body>
__global__ void over_elements(std::int64_t rows, std::int64_t columns, Body body) {
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y, column_step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += row_step)
    for (std::int64_t column = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; column < columns; column += column_step) body(row, column);
}

/// Calls body(row, column) on the device for every element of `tensors`, which are of one shape. Neighbouring threads take neighbouring
/// columns; where all tensors are dense the whole is one row. `body` is a struct with a const __device__ operator().
template <class Body>
void for_each_element(const Stream& stream, std::initializer_list<TensorView> tensors, const Body& body) {
  const TensorView& first = *tensors.begin();
  bool dense = true;
  for (const TensorView& x : tensors) {
    ensure(x.shape == first.shape, "tensors {} and {} differ in shape", x.shape.to_string(), first.shape.to_string());
    dense = dense && x.dense();
  }
  if (first.size() == 0) return;
  const std::int64_t rows = dense ? 1 : first.rows(), columns = dense ? first.size() : first.columns();
  const dim3 block = columns < 256 ? dim3(32, 8) : dim3(256, 1);
  const auto blocks = [](std::int64_t count, unsigned per_block) {
    constexpr std::int64_t most = 65535;  // the grid's limit along y; what is left, the loops take
    return static_cast<unsigned>(std::min(most, (count + per_block - 1) / per_block));
  };
  over_elements<<<dim3(blocks(columns, block.x), blocks(rows, block.y)), block, 0, native_of(stream)>>>(rows, columns, body);
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda
