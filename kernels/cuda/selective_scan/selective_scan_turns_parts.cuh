#pragma once

#include "kernels/cuda/selective_scan/selective_scan_gradients.cuh"
#include "kernels/cuda/selective_scan/selective_scan_turns.cuh"

/// The blocks' parts of d_B and d_C in the backward pass in turns: how they are stored, and their sums.
namespace causeway::cuda {

/// The larger absolute value, or NaN.
__device__ inline float larger(float x, float y) {
  float z;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(fabsf(x)), "f"(fabsf(y)));
  return z;
}

/// Four floats in 8 bytes, as multiples of the 2^-12th part of the largest one's power of two: the low 14 bits of each
/// half word are an integer, its upper two bits are two bits of that power's exponent. Numbers below 2^-112 become 0;
/// if one is NaN or infinite, all become NaN.
struct PackedQuad {
  static constexpr float unit = 0x1p-12f;

  __device__ static uint2 of(const float (&x)[4]) {
    constexpr float magic = 0x1.8p23f;  // magic + i holds the integer i in its lower bits
    const float most = larger(larger(larger(x[0], x[1]), larger(x[2], x[3])), 0x1p-100f);
    const unsigned exponent = __float_as_uint(most) & 0x7f800000;
    // 1 / unit for this exponent, and a little less, so that no integer is 2^13.
    const float scale = __uint_as_float(0x85000000 - 0x1000 - exponent);
    unsigned i[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) i[j] = __float_as_uint(fmaf(x[j], scale, magic));
    const unsigned low = (exponent >> 23) * 0x10004000, high = (exponent >> 27) * 0x10004000;
    return {__byte_perm(i[0], i[1], 0x5410) & 0x3fff3fff | low & 0xc000c000,
            __byte_perm(i[2], i[3], 0x5410) & 0x3fff3fff | high & 0xc000c000};
  }
  /// sum += the floats, in `unit`.
  __device__ static void add(const uint2& x, float (&sum)[4]) {
    const unsigned exponent = (x.x >> 14 & 3) << 23 | x.x >> 30 << 25 | (x.y >> 14 & 3) << 27 | x.y >> 30 << 29;
    const float scale = __uint_as_float(exponent | 0x800);  // undoes the little less; NaN if the exponent is 255
    const auto integer = [](unsigned i) { return __uint_as_float(i & 0x3fff ^ 0x4b002000) - (0x1p23f + 0x1p13f); };
    sum[0] += integer(x.x) * scale;
    sum[1] += integer(x.x >> 16) * scale;
    sum[2] += integer(x.y) * scale;
    sum[3] += integer(x.y >> 16) * scale;
  }
};

/// Where the sums of d_B and d_C go. Without a gate ds is d_y, which tf32 holds.
struct TurnRowGradients {
  bf16 *d_B, *d_C;
  std::int64_t B_stride, C_stride, tokens;
  bool gated;
};

/// d_B and d_C: the blocks' parts, TurnRun::rows, one after the other.
///
/// block: 256 quads
/// thread: one quad: four states of a token's d_B or d_C
/// registers: four float32 sums
__global__ void __launch_bounds__(256)
    add_row_parts(const uint2* parts, std::int64_t count, std::int64_t quads, TurnRowGradients to) {
  const std::int64_t quad = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % 32, state = lane / 8 * part_states;
  const std::int64_t t = quad / 32 * turn_tokens + lane % turn_tokens;
  if (t >= to.tokens) return;
  float sum[4] = {};
#pragma unroll 16
  for (std::int64_t part = 0; part < count; ++part) PackedQuad::add(parts[part * quads + quad], sum);
  const bool is_C = lane & turn_tokens;
  const float factor =
      PackedQuad::unit * tf32_correction * (is_C && !to.gated ? 1 : tf32_correction);  // of the products
  bf16* const row = is_C ? to.d_C + t * to.C_stride : to.d_B + t * to.B_stride;
#pragma unroll
  for (int s = 0; s < part_states; ++s) row[state + s] = narrowed<bf16>(sum[s] * factor);
}

}  // namespace causeway::cuda
