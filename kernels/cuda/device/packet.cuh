#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <initializer_list>

#include "kernels/core/tensor.hpp"

namespace causeway::cuda {

/// x in the accumulator type of T: float for bf16 and float, double for double.
template <class T>
__device__ Accumulator<T> widened(T x) {
  return static_cast<Accumulator<T>>(x);
}

/// x rounded to T, to nearest even.
template <class T>
__device__ T narrowed(Accumulator<T> x) {
  if constexpr (sizeof(T) == 2) {
    T y;
    y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    return y;
  } else {
    return x;
  }
}

/// V neighbouring channels of one row, which a thread reads or writes in one memory access of sizeof(T)·V bytes (at
/// most 16). Element v is channel c + v, where c is the channel of the packet, a multiple of V. Neighbouring threads
/// take neighbouring packets, so that a warp accesses 32·V channels that follow each other in memory.
template <class T, int V>
struct alignas(sizeof(T) * V) Packet {
  T at[V];

  /// `from` must be aligned to the size of the packet.
  __device__ static Packet load(const T* from) { return *reinterpret_cast<const Packet*>(from); }
  __device__ static Packet zeros() {
    Packet x;
#pragma unroll
    for (int v = 0; v < V; ++v) x.at[v] = narrowed<T>(0);
    return x;
  }
  /// The values, each rounded to T.
  __device__ static Packet of(const Accumulator<T> (&values)[V]) {
    Packet x;
#pragma unroll
    for (int v = 0; v < V; ++v) x.at[v] = narrowed<T>(values[v]);
    return x;
  }
  __device__ void store(T* to) const { *reinterpret_cast<Packet*>(to) = *this; }
};

/// Whether every row of these tensors consists of whole packets of `bytes`, aligned to their size. Absent tensors
/// count as aligned.
inline bool aligned(std::initializer_list<TensorView> tensors, std::int64_t bytes) {
  for (const TensorView& x : tensors) {
    if (!x.present()) continue;
    const std::int64_t item = size_of(x.dtype);
    if (reinterpret_cast<std::uintptr_t>(x.data) % static_cast<std::uintptr_t>(bytes) != 0 ||
        x.row_stride * item % bytes != 0 || x.columns() * item % bytes != 0)
      return false;
  }
  return true;
}

}  // namespace causeway::cuda
