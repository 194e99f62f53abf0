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

/// Element-wise kernels, and the code that all kernels over rows share. An element-wise kernel is a struct ("body")
/// whose operator()<V>(row, column) computes V neighbouring columns of a row. It is compiled for packets of up to 16
/// bytes and for single elements.
namespace causeway::cuda {

/// Elements of a packet, if a packet of the largest of these types has 16 bytes.
template <class... T>
inline constexpr int packet_width = static_cast<int>(16 / std::max({sizeof(T)...}));

/// The type of one word of `bytes` bytes. A packet is stored as a word: the compiler splits the store of a struct whose
/// elements come from different branches.
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

/// A TensorView of rows as device code indexes it: element (row, column) is data[row · stride + column].
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

/// Whether every row of these tensors starts at a multiple of the size of `width` elements, so that a packet of them
/// can be read there. Absent tensors count as aligned.
inline bool rows_start_aligned(std::initializer_list<TensorView> tensors, int width) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const TensorView& x) {
    const auto bytes = static_cast<std::uintptr_t>(width * size_of(x.dtype));
    return !x.present() ||
           (reinterpret_cast<std::uintptr_t>(x.data) % bytes == 0 && (x.rows() <= 1 || x.row_stride % width == 0));
  });
}

/// Calls body.template operator()<width>() if `packets`, which says that whole packets of `width` elements can be used,
/// and body.template operator()<1>() otherwise.
template <int width, class Body>
void dispatch_width(bool packets, const Body& body) {
  if (packets)
    body.template operator()<width>();
  else
    body.template operator()<1>();
}

/// The number of blocks of a grid for `count` items, `per_block` in each block. Throws Error if it exceeds 2^31 - 1.
inline unsigned grid_of(std::int64_t count, std::int64_t per_block = 1) {
  const std::int64_t blocks = ceil_div(count, per_block);
  ensure(blocks < std::int64_t{1} << 31, "a grid of {} blocks, expected less than 2^31", blocks);
  return static_cast<unsigned>(blocks);
}

/// Calls body.operator()<V> for all packets of V columns, and body.operator()<1> for the columns that are left at the
/// end of a row.
///
/// block: 256 threads, as many packets of a row across as a row has (a power of two), and several rows
/// thread: one packet of every (gridDim.y · blockDim.y)-th row
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

/// Calls body.operator()<V>(row, column) on the device for all of [rows, columns], V columns at once: V is Body::width
/// if `aligned`, otherwise 1. Neighbouring threads compute neighbouring columns. `body` is a struct with a template
/// `const __device__ void operator()<V>(row, column)` and a constant `width`.
template <class Body>
void for_each_packet(const Stream& stream, std::int64_t rows, std::int64_t columns, bool aligned, const Body& body) {
  if (rows == 0 || columns == 0) return;
  dispatch_width<Body::width>(aligned, [&]<int V> {
    const std::int64_t packets = ceil_div(columns, V);
    unsigned across = 256;
    while (across > 1 && across / 2 >= packets) across /= 2;
    const dim3 block(across, 256 / across);
    constexpr std::int64_t most = 65535;  // the grid's limit along y; the kernel loops over the rows beyond it
    const auto down = static_cast<unsigned>(std::min(most, ceil_div(rows, block.y)));
    over_elements<V><<<dim3(grid_of(packets, block.x), down), block, 0, native_of(stream)>>>(rows, columns, body);
    cuda_check(cudaGetLastError());
  });
}

/// The same for all elements of `tensors`, which have one shape. If all of them are dense, they count as one row.
template <class Body>
void for_each_element(const Stream& stream, std::initializer_list<TensorView> tensors, const Body& body) {
  const TensorView& first = *tensors.begin();
  bool dense = true;
  for (const TensorView& x : tensors) {
    ensure(x.shape == first.shape, "tensors of shapes {} and {}, expected equal shapes", x.shape.to_string(),
           first.shape.to_string());
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
