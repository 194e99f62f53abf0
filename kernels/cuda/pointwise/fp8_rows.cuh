#pragma once

#include <cuda_fp8.h>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/fp8/fp8.hpp"

/// Rows of bf16 to 8-bit floats, for kernels that have a whole row in one team of threads (RowTeams). The bytes are the
/// same whichever kernel writes them.
namespace causeway::cuda {

inline constexpr unsigned magnitude_bits = 0x7fff, infinity_bits = 0x7f80;  // of bf16

/// The scale of numbers of which the largest finite one has these bits, and its reciprocal: both are powers of two.
struct Fp8Scale {
  float value, reciprocal;

  __device__ Fp8Scale(unsigned largest, Fp8Format format) {
    const double scale = fp8_scale(static_cast<double>(__uint_as_float(largest << 16)), format);
    value = static_cast<float>(scale);
    reciprocal = 1 / value;
  }
};

/// V neighbouring values of a row, two in a word: value 2i is the lower half of word i.
template <int V>
struct Pairs {
  unsigned at[(V + 1) / 2];

  __device__ static Pairs zeros() { return {}; }
  __device__ static Pairs load(const Rows<const bf16>& x, std::int64_t row, std::int64_t column) {
    return of(x.template load<V>(row, column));
  }
  __device__ static Pairs of(const Packet<bf16, V>& x) {
    if constexpr (V == 1)
      return {{x.at[0].bits}};
    else
      return std::bit_cast<Pairs>(x);
  }
};
__device__ inline float lower_of(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float upper_of(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

/// The larger magnitudes of both halves, as bits; also infinity and NaN. Bits of positive numbers have their order.
__device__ inline unsigned larger_halves(unsigned largest, unsigned pair) {
  return __vmaxu2(largest, pair & (magnitude_bits | magnitude_bits << 16));
}
/// The same without infinity and NaN.
__device__ inline unsigned larger_finite_halves(unsigned largest, unsigned pair) {
  const unsigned lower = pair & magnitude_bits, upper = pair >> 16 & magnitude_bits;
  return __vmaxu2(largest, (lower < infinity_bits ? lower : 0) | (upper < infinity_bits ? upper << 16 : 0));
}
__device__ inline unsigned larger_half(unsigned pair) { return max(pair & 0xffff, pair >> 16); }

/// The codes of two numbers, the first one in the lower byte. The instruction makes infinity the largest number.
__device__ inline unsigned codes_of_two(float first, float second, Fp8Format format) {
  const float2 both = make_float2(first, second);
  return format == Fp8Format::e4m3 ? __nv_cvt_float2_to_fp8x2(both, __NV_SATFINITE, __NV_E4M3)
                                   : __nv_cvt_float2_to_fp8x2(both, __NV_SATFINITE, __NV_E5M2);
}

/// `code`, or that of infinity or NaN if x is one of them; x is the lower half of `bits`.
__device__ inline unsigned with_special(unsigned code, unsigned bits, Fp8Format format) {
  const unsigned magnitude = bits & magnitude_bits;
  if (magnitude < infinity_bits) return code;
  const bool infinity = magnitude == infinity_bits && format == Fp8Format::e5m2;
  return (infinity ? E5m2::largest_code + 1 : E5m2::nan_code) | (bits >> 8 & E5m2::sign_bit);
}

/// The codes of two values of a row.
__device__ inline unsigned codes_of_pair(unsigned pair, float reciprocal, bool special, Fp8Format format) {
  const unsigned codes = codes_of_two(lower_of(pair) * reciprocal, upper_of(pair) * reciprocal, format);
  if (!special) return codes;
  return with_special(codes & 0xff, pair, format) | with_special(codes >> 8, pair >> 16, format) << 8;
}
/// Writes those of V values. `special`: infinity or NaN may be among them.
template <int V>
__device__ void store_codes(std::uint8_t* to, const Pairs<V>& x, float reciprocal, bool special, Fp8Format format) {
  static_assert(V == 1 || V == 4 || V == 8);
  if constexpr (V == 1) {
    *to = static_cast<std::uint8_t>(codes_of_pair(x.at[0], reciprocal, special, format));
  } else {
    unsigned codes[V / 2];
#pragma unroll
    for (int i = 0; i < V / 2; ++i) codes[i] = codes_of_pair(x.at[i], reciprocal, special, format);
    if constexpr (V == 4)
      *reinterpret_cast<unsigned*>(to) = codes[0] | codes[1] << 16;
    else
      *reinterpret_cast<uint2*>(to) = make_uint2(codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
  }
}

/// The largest x of the team (RowTeams); every thread receives it. All threads of the block call it together, and pass
/// a barrier between two calls.
__device__ inline unsigned largest_of_team(unsigned x) {
  x = __reduce_max_sync(~0u, x);
  if (blockDim.x == 32) return x;
  __shared__ unsigned of_warp[32];
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  return __reduce_max_sync(~0u, threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : 0);
}

/// What a thread has seen of a row.
struct Magnitudes {
  unsigned largest = 0;  ///< the bits of the largest finite one, in either half
  bool special = false;  ///< it has seen infinity or NaN

  template <int V>
  __device__ void add(const Pairs<V>& x) {
    unsigned all = 0;
#pragma unroll
    for (const unsigned pair : x.at) all = larger_halves(all, pair);
    if (larger_half(all) >= infinity_bits) {  // rare
      special = true;
      all = 0;
      for (const unsigned pair : x.at) all = larger_finite_halves(all, pair);
    }
    largest = __vmaxu2(largest, all);
  }
  /// Of the whole row, which is the team's.
  __device__ Fp8Scale scale(Fp8Format format) const { return {largest_of_team(larger_half(largest)), format}; }
};

/// A matrix of 8-bit floats that a kernel writes row by row; codes are null if there is none.
struct Fp8Rows {
  std::uint8_t* codes;
  float* scales;
  std::int64_t stride;

  explicit Fp8Rows(const Fp8Matrix& x)
      : codes(static_cast<std::uint8_t*>(x.codes.data)),
        scales(static_cast<float*>(x.scales.data)),
        stride(x.codes.row_stride) {}
  template <int V>
  __device__ void store(std::int64_t row, std::int64_t column, const Pairs<V>& x, const Fp8Scale& scale, bool special,
                        Fp8Format format) const {
    store_codes<V>(codes + row * stride + column, x, scale.reciprocal, special, format);
  }
};

}  // namespace causeway::cuda
