#pragma once

#include "kernels/cuda/selective_scan/selective_scan_turns.cuh"

/// The work of the backward pass in turns per token and channel: inputs and gradients.
namespace causeway::cuda {

/// The tokens [begin, end) of a block's piece. The first and the last step may hold tokens outside of it: they leave h
/// and g as they are.
struct TurnPiece {
  int begin, end;

  __device__ bool has(int token) const { return token >= begin && token < end; }
  __device__ bool has_all(int first) const { return first >= begin && first + turn_tokens <= end; }
  __device__ int first_step() const { return begin / turn_step; }
  __device__ int last_step() const { return (end + turn_step - 1) / turn_step - 1; }
};

__device__ inline float logarithm_base_2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// softplus(x) and its slope.
__device__ inline float softplus_and_slope(float x, float& slope) {
  const float e = exponential_base_2(x * static_cast<float>(log2_e)), sum = 1 + e;
  const float series = e * (1 + e * (-1.0f / 2 + e * (1.0f / 3 + e * (-1.0f / 4 + e * (1.0f / 5 - e * (1.0f / 6))))));
  const float smooth = e < 0.125f ? series : logarithm_base_2(sum) * static_cast<float>(ln_2);
  slope = x > 20 ? 1 : e * reciprocal(sum);
  return x > 20 ? x : smooth;
}

/// Starts an asynchronous copy of 16 bytes from global to shared memory.
__device__ inline void copy_16_valid_bytes_async(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// Starts to copy the raw inputs of the tokens first … first + 3. Lane 8k + 2i + j copies 16 bytes, half j, of token i
/// of input k, and of B (k = 0) or C (k = 1); lane 16 copies where documents start. Tokens outside of the piece become
/// zero.
__device__ inline void copy_turn_inputs(TurnWarpMemory& own, const TurnLane& l, const TurnPiece& piece, bool high,
                                        int first) {
  const unsigned to = shared_address(&own.stages[high]) + 16 * l.lane, rows = to + offsetof(TurnStage, rows);
  if (piece.has_all(first)) {
    copy_16_valid_bytes_async(to, own.pieces[0][l.lane].at(first));
    if (l.lane <= 16) copy_16_valid_bytes_async(rows, own.pieces[1][l.lane].at(first));
  } else {
    const bool real = piece.has(first + l.lane / 2 % 4), is_starts = l.lane == 16;
    copy_16_bytes_async(to, own.pieces[0][real ? l.lane : 0].at(real ? first : 0), real);
    if (l.lane <= 16)
      copy_16_bytes_async(rows, own.pieces[1][real || is_starts ? l.lane : 0].at(real || is_starts ? first : 0),
                          real || is_starts);
  }
}

/// Starts to copy h before a step, as the forward pass saved it, for rank 0.
__device__ inline void copy_saved_states(TurnMemory& shared, const TurnLane& l, int step, int channels) {
  const float* from = reinterpret_cast<const float*>(shared.warps[l.warp].pieces[3][l.lane].at(step));
  const unsigned to = shared_address(&shared.saved[l.team][step >> 1 & 3][0][l.lane]);
#pragma unroll
  for (int s = 0; s < part_states; ++s, from += channels)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to + s * 8 * 32), "l"(from) : "memory");
}

/// Δ, Δu and ds of the warp's tokens and channels, B and C of its tokens, from the raw inputs.
template <bool Gated>
__device__ inline void convert_turn_inputs(TurnMemory& shared, const TurnLane& l, const TurnPiece& piece, bool high,
                                           int first) {
  const TurnStage& raw = shared.warps[l.warp].stages[high];
  TurnInputs& to = shared.warps[l.warp].inputs[high];
  const std::uint32_t raw_delta = raw.delta[l.lane], raw_u = raw.u[l.lane], raw_z = raw.z[l.lane],
                      raw_dy = raw.dy[l.lane];
  const uint2 rows = raw.rows[l.lane];
  const float2 bias = *reinterpret_cast<const float2*>(&shared.channels[l.pair]);
  const auto half = [](std::uint32_t pair, int c) { return c == 0 ? low_bf16(pair) : high_bf16(pair); };
  float delta[2], slope[2], through_gate[2];
  const int at = 4 * l.pair + l.part;
#pragma unroll
  for (int c = 0; c < 2; ++c) delta[c] = softplus_and_slope(half(raw_delta, c) + (c == 0 ? bias.x : bias.y), slope[c]);
  if (!piece.has_all(first) && !piece.has(first + l.part)) delta[0] = delta[1] = slope[0] = slope[1] = 0;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float ds = half(raw_dy, c);
    through_gate[c] = 0;
    if constexpr (Gated) {
      const float z = half(raw_z, c), sigma = reciprocal(1 + exponential_base_2(z * static_cast<float>(-log2_e)));
      const float gate = z * sigma;
      through_gate[c] = ds * (sigma + gate * (1 - sigma));
      ds *= gate;
    }
    to.delta[c][at] = delta[c];
    to.x[c][at] = delta[c] * half(raw_u, c);
    to.ds[c][at] = ds;
  }
  to.u[l.lane] = raw_u;
  to.kept[l.lane] = make_float4(slope[0], slope[1], through_gate[0], through_gate[1]);
  reinterpret_cast<float4*>(&to.B[0][0])[l.lane] =
      make_float4(low_bf16(rows.x), high_bf16(rows.x), low_bf16(rows.y), high_bf16(rows.y));
}

/// The sums over the states; d_delta, d_u and d_z of the warp's tokens first … first + 3. Lane 8k + 2i + j writes 16
/// bytes, half j, of token i of gradient k.
template <bool Gated>
__device__ inline void write_turn_gradients(TurnMemory& shared, const TurnLane& l, const TurnPiece& piece, bool high,
                                            int first) {
  TurnWarpMemory& own = shared.warps[l.warp];
  const TurnInputs& from = own.inputs[high];
  const float4* const g_parts = &own.g_sums[0][0] + (l.lane + (32 - 8) * l.part);  // token l.part, lane l.pair
  const float2* const y_parts = &own.y_sums[0][0] + (l.lane + (40 - 8) * l.part);
  const float4 first_g = g_parts[0];
  const float2 first_y = y_parts[0];
  float y[2] = {first_y.x, first_y.y}, gB[2] = {first_g.x, first_g.y}, gA[2] = {first_g.z, first_g.w};
#pragma unroll
  for (int k = 1; k < 4; ++k) {
    const float4 g = g_parts[8 * k];
    const float2 part = y_parts[8 * k];
    gB[0] += g.x, gB[1] += g.y, gA[0] += g.z, gA[1] += g.w;
    y[0] += part.x, y[1] += part.y;
  }
  float kept[4], d_delta[2], d_u[2], d_z[2];
  fill(kept, from.kept[l.lane]);
  const std::uint32_t u_pair = from.u[l.lane];
  const float2 skips = *reinterpret_cast<const float2*>(&shared.channels[l.pair].z);
  float4 sums = own.sums[l.lane];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float u = c == 0 ? low_bf16(u_pair) : high_bf16(u_pair);
    const float delta = from.delta[c][4 * l.pair + l.part], ds = from.ds[c][4 * l.pair + l.part];
    d_delta[c] = kept[c] * (gB[c] * u + gA[c] * static_cast<float>(ln_2));
    const float skip = c == 0 ? skips.x : skips.y;
    d_u[c] = skip * ds + gB[c] * delta;
    d_z[c] = kept[2 + c] * (y[c] + skip * u);
    (c == 0 ? sums.x : sums.y) += ds * u;
    (c == 0 ? sums.z : sums.w) += d_delta[c];
  }
  own.sums[l.lane] = sums;
  __syncwarp();
  auto& outputs = *reinterpret_cast<std::uint32_t(*)[3][32]>(&own.g_sums);
  outputs[0][l.lane] = pack_bf16(d_delta[0], d_delta[1]);
  outputs[1][l.lane] = pack_bf16(d_u[0], d_u[1]);
  if constexpr (Gated) outputs[2][l.lane] = pack_bf16(d_z[0], d_z[1]);
  __syncwarp();
  if (l.part < (Gated ? 3 : 2) && piece.has(first + l.lane / 2 % 4)) {
    uint4* const to = reinterpret_cast<uint4*>(own.pieces[2][l.lane].at(first));
    __builtin_assume(__isGlobal(to));
    *to = reinterpret_cast<const uint4*>(&outputs[0][0])[l.lane];
  }
  __syncwarp();
}

}  // namespace causeway::cuda
