#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/core/integer.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/packet.cuh"

namespace causeway::cuda {

/// Elements of a 16-byte access to the largest of these types.
template <class... T>
inline constexpr int packet_width = static_cast<int>(16 / std::max({sizeof(T)...}));

/// A packet as one word: what the compiler would otherwise take apart where its elements come from different branches.
template <std::size_t bytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = std::uint16_t;
};
template <>
struct WordOf<4> {
  using type = std::uint32_t;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};

/// A view as a kernel indexes it.
template <class T>
struct Rows {
  using Value = std::remove_const_t<T>;
  T* data;
  std::int64_t stride;

  explicit Rows(TensorView x) : data(static_cast<T*>(x.data)), stride(x.row_stride) {}
  __device__ T& operator()(std::int64_t row, std::int64_t column) const { return data[row * stride + column]; }
  template <int V>
  __device__ Packet<Value, V> load(std::int64_t row, std::int64_t column) const {
    return Packet<Value, V>::load(data + row * stride + column);
  }
  template <int V>
  __device__ void store(std::int64_t row, std::int64_t column, const Packet<Value, V>& x) const {
    using Word = typename WordOf<sizeof(x)>::type;
    *reinterpret_cast<Word*>(data + row * stride + column) = std::bit_cast<Word>(x);
  }
};

/// Whether every row of these starts where an access of `width` elements may; absent ones do.
inline bool rows_start_aligned(std::initializer_list<TensorView> tensors, int width) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const TensorView& x) {
    const auto bytes = static_cast<std::uintptr_t>(width * size_of(x.dtype));
    return !x.present() ||
           (reinterpret_cast<std::uintptr_t>(x.data) % bytes == 0 && (x.rows() <= 1 || x.row_stride % width == 0));
  });
}

/// Calls body.template operator()<width>() or <1>: kernels come for whole packets and for single elements.
template <int width, class Body>
void dispatch_width(bool whole, const Body& body) {
  if (whole)
    body.template operator()<width>();
  else
    body.template operator()<1>();
}

/// `count` items as blocks of a grid along x.
inline unsigned grid_of(std::int64_t count, std::int64_t per_block = 1) {
  const std::int64_t blocks = ceil_div(count, per_block);
  ensure(blocks < std::int64_t{1} << 31, "a grid of {} blocks", blocks);
  return static_cast<unsigned>(blocks);
}

/// Packets of V columns; the columns that are left at a row's end go one by one.
template <int V, class Body>
__global__ void __launch_bounds__(256) over_elements(std::int64_t rows, std::int64_t columns, Body body) {
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y,
                     first = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (first >= columns) return;
  for (std::int64_t row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += row_step) {
    if (first + V <= columns) {
      body.template operator()<V>(row, first);
    } else {
      for (std::int64_t column = first; column < columns; ++column) body.template operator()<1>(row, column);
    }
  }
}

/// Calls body.operator()<V>(row, column) on the device for [rows, columns], V columns at once: Body::width where
/// `aligned`, otherwise 1. Neighbouring threads take neighbouring columns. `body` is a struct with a const __device__
/// operator().
template <class Body>
void for_each_packet(const Stream& stream, std::int64_t rows, std::int64_t columns, bool aligned, const Body& body) {
  if (rows == 0 || columns == 0) return;
  dispatch_width<Body::width>(aligned, [&]<int V> {
    const std::int64_t packets = ceil_div(columns, V);
    unsigned across = 256;
    while (across > 1 && across / 2 >= packets) across /= 2;
    const dim3 block(across, 256 / across);
    constexpr std::int64_t most = 65535;  // the grid's limit along y; what is left, the loop takes
    const auto down = static_cast<unsigned>(std::min(most, ceil_div(rows, block.y)));
    over_elements<V><<<dim3(grid_of(packets, block.x), down), block, 0, native_of(stream)>>>(rows, columns, body);
    cuda_check(cudaGetLastError());
  });
}

/// The same for every element of `tensors`, which are of one shape; where all of them are dense the whole is one row.
template <class Body>
void for_each_element(const Stream& stream, std::initializer_list<TensorView> tensors, const Body& body) {
  const TensorView& first = *tensors.begin();
  bool dense = true;
  for (const TensorView& x : tensors) {
    ensure(x.shape == first.shape, "tensors {} and {} differ in shape", x.shape.to_string(), first.shape.to_string());
    dense = dense && x.dense();
  }
  if (first.size() == 0) return;
  bool aligned = true;
  for (TensorView x : tensors) {
    if (dense) x = x.reshaped({1, x.size()});
    aligned = aligned && rows_start_aligned({x}, Body::width);
  }
  for_each_packet(stream, dense ? 1 : first.rows(), dense ? first.size() : first.columns(), aligned, body);
}

}  // namespace causeway::cuda
