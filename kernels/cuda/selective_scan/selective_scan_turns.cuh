#pragma once

#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// The layout of the backward pass in turns (selective_scan_turns.cu): bf16, 16 states, channels in blocks of 16.
///
///   step   16 tokens of the block's 16 channels
///   team   4 warps, which compute every second step; two teams alternate
///   rank   a warp's place in its team: rank r has the tokens 4r … 4r + 3 of the team's steps
///   turn   the time in which a warp advances h (from rank 0 to rank 3) or g (from rank 3 to rank 0, and on to rank 3
///   of
///          the other team) over its 4 tokens; the next warp waits for it
///   pair   two neighbouring channels, which a lane holds together
///
/// h begins each step from the state that the forward pass saved, so only the turns of g follow each other over the
/// whole run. While one team takes its turns of g, the other one does the work that does not wait.
namespace causeway::cuda {

inline constexpr int turn_channels = 16;  ///< channels of a block of threads
inline constexpr int turn_states = 16;    ///< states of a channel
inline constexpr int turn_warps = 8, team_warps = turn_warps / 2;
inline constexpr int turn_tokens = 4, turn_step = team_warps * turn_tokens;
inline constexpr int part_states = 4, lane_chains = 2 * part_states;  ///< states of a channel, of a pair
static_assert(selective_scan_block == turn_step);

/// A lane's place. Lane 8k + p has the states 4k … 4k + 3 (part k) of the pair of channels 2p and 2p + 1 of the block,
/// for the warp's 4 tokens: 8 chains, number 2 · state + channel. For work per token and channel it has token k of the
/// pair.
struct TurnLane {
  int lane, warp, part, pair, team, rank;
  float even;  ///< 1 in lanes 8k … 8k + 3, otherwise 0
};

/// The raw inputs of a warp's tokens for one step.
struct alignas(16) TurnStage {
  std::uint32_t delta[32], u[32], z[32], dy[32];  // lane 8k + p: token k, channels 2p and 2p + 1
  uint2 rows[32];                                 // B, then C: [token][state]
  std::uint32_t starts;                           // bit k: token k of the step is the first of its document
};

/// Where a lane reads or writes 16 bytes of a row of a tensor in every step.
struct alignas(16) TurnRows {
  bf16* base;   // of step 0
  int advance;  // bytes from one step to the next

  template <class T>
  __device__ void set(T* tensor, std::int64_t stride, int row, int column) {
    base = const_cast<bf16*>(tensor) + row * stride + column;
    advance = static_cast<int>(turn_step * stride * 2);
  }
  __device__ bf16* at(int step) const {
    return reinterpret_cast<bf16*>(reinterpret_cast<char*>(base) + std::int64_t{step} * advance);
  }
};

/// The shared memory of a warp.
struct alignas(16) TurnWarpMemory {
  float delta[2][32], x[2][32], ds[2][32];  // [channel of the pair][4 pair + token]
  float B[turn_tokens][turn_states], C[turn_tokens][turn_states];
  float4 g_sums[turn_tokens][32];  // ⟨g, B⟩ of both channels, then ΣA p of both, over each lane's states
  float2 y_sums[turn_tokens][32];  // ⟨C, h⟩ likewise; in odd rows lane 8k + p is at 8 (k ^ 1) + p,
                                   // so that two rows are read from different banks
  float4 kept[32];                 // softplus' slope, then dy·silu'(z), of the lane's own token and channels
  TurnStage stages[2];             // even and odd steps
  std::uint32_t outputs[3][32];    // d_delta, d_u, d_z of the lane's own token and channels
  TurnRows pieces[3][32];          // where each lane copies from: inputs, B and C; and where it writes to
  float4 sums[32];                 // Σ ds u and Σ d_delta of the lane's channels
};

/// Eight floats of each lane, as two conflict-free accesses of 16 bytes.
struct LaneOctets {
  float4 half[2][32];

  __device__ void load(int lane, float (&to)[8]) const {
    const float4 a = half[0][lane], b = half[1][lane];
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
  }
  __device__ void store(int lane, const float (&from)[8]) {
    half[0][lane] = make_float4(from[0], from[1], from[2], from[3]);
    half[1][lane] = make_float4(from[4], from[5], from[6], from[7]);
  }
};

struct TurnMemory {
  TurnWarpMemory warps[turn_warps];
  LaneOctets h[2][turn_warps];  // h before each warp's tokens; even and odd steps of its team
  LaneOctets g[2][turn_warps];  // adjoint that enters each warp's tokens from the right, likewise
  LaneOctets rates;
  float4 channels[8];  // bias of both channels of a pair, then D
};

/// What the kernel reads and writes besides the inputs.
struct TurnRun {
  const bf16* d_y;
  bf16 *d_u, *d_delta, *d_z;
  std::int64_t d_y_stride, d_u_stride, d_delta_stride, d_z_stride;
  const float* states;  ///< saved by the forward pass: [blocks of tokens][N][channels]
  std::int64_t states_stride;
  const std::uint32_t* starts;  ///< bit k of word s: token 32 s + k is the first of its document
  RunPieces pieces;             ///< one for each blockIdx.y
  PieceStates adjoint;          ///< what enters them from the right
  float* rows;                  ///< [blocks of channels][tokens][2][N]: d_B and d_C
  float* parameters;            ///< [pieces][N + 2][channels]: d_A, d_D, d_delta_bias
  int once = 1;                 ///< see wait_for_turn
};

/// Waits for the turn that another warp passes on, `times` times: 0 or 1. A loop, whose end the compiler does not know,
/// keeps the compiler from moving work that comes before the turn into it.
__device__ inline void wait_for_turn(int barrier, int times) {
#pragma unroll 1
  for (int i = 0; i < times; ++i) wait_at_barrier<64>(barrier);
}
__device__ inline void pass_turn(int barrier, int times) {
#pragma unroll 1
  for (int i = 0; i < times; ++i) arrive_at_barrier<64>(barrier);
}
/// The barriers: 2, 3, 4 and 6, 7, 8 for h, the others for g.
__device__ inline int turn_of_g(int warp) { return warp == 0 ? 1 : warp == 1 ? 5 : 7 + warp; }

/// Keeps the compiler from computing the values later than here.
template <int n>
__device__ inline void settle(float (&x)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(x[i]));
}
/// 2^x, not later than here.
__device__ inline float settled_exponential(float x) {
  float y;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

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

/// What sums of products with 1 on tensor cores are multiplied by: these cut the values to tf32, which makes them
/// smaller by 2^-11 / (2 ln 2) on average.
inline constexpr float tf32_correction = 1.000352f;

/// c += A B with operands cut to tf32 (PTX's m16n8k8). Lane 4g + t holds of A [16, 8] a[0]: row g, column t; a[1]: row
/// g + 8, column t; a[2], a[3]: the same rows, column t + 4; of B [8, 8] rows t and t + 4 of column g; of C [16, 8]
/// what device/tensor_core.cuh says.
__device__ inline void mma_tf32(float (&c)[4], const float (&a)[4], float b0, float b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

/// Starts an asynchronous copy of 8 bytes from global to shared memory.
__device__ inline void copy_8_bytes_async(unsigned to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
}

__device__ inline void fill(float (&to)[4], const float4& from) {
  to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
}

/// Starts to copy the raw inputs of a step. Tokens outside of the piece become zero; `step` may be any then.
__device__ inline void copy_turn_inputs(TurnWarpMemory& own, const std::uint32_t* starts, int lane, int step,
                                        bool real) {
  TurnStage& to = own.stages[step >> 1 & 1];
  const unsigned address = shared_address(&to) + 16 * lane;
  copy_16_bytes_async(address, real ? own.pieces[0][lane].at(step) : own.pieces[0][0].base, real);
  if (lane < 16)
    copy_16_bytes_async(address + 4 * sizeof(to.delta), real ? own.pieces[1][lane].at(step) : own.pieces[1][0].base,
                        real);
  else if (lane == 16)
    copy_4_bytes_async(shared_address(&to.starts), starts + (step >> 1), true);
}

/// Δ, Δu and ds of the warp's tokens and channels, B and C of its tokens, to shared memory.
template <bool Gated>
__device__ inline void stage_turn_inputs(const TurnStage& raw, const TurnLane& l, bool real, float2 bias,
                                         TurnWarpMemory& shared) {
  const std::uint32_t raw_delta = raw.delta[l.lane], raw_u = raw.u[l.lane], raw_z = raw.z[l.lane],
                      raw_dy = raw.dy[l.lane];
  const uint2 rows = raw.rows[l.lane];
  float slope[2], through_gate[2];
  const int at = 4 * l.pair + l.part;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const auto half = [c](std::uint32_t pair) { return c == 0 ? low_bf16(pair) : high_bf16(pair); };
    float delta = softplus_and_slope(half(raw_delta) + (c == 0 ? bias.x : bias.y), slope[c]), ds = half(raw_dy);
    if (!real) delta = slope[c] = 0;
    through_gate[c] = 0;
    if constexpr (Gated) {
      const float z = half(raw_z), sigma = reciprocal(1 + exponential_base_2(z * static_cast<float>(-log2_e)));
      const float gate = z * sigma;
      through_gate[c] = ds * (sigma + gate * (1 - sigma));
      ds *= gate;
    }
    shared.delta[c][at] = delta;
    shared.x[c][at] = delta * half(raw_u);
    shared.ds[c][at] = ds;
  }
  shared.kept[l.lane] = make_float4(slope[0], slope[1], through_gate[0], through_gate[1]);
  reinterpret_cast<float4*>(&shared.B[0][0])[l.lane] =
      make_float4(low_bf16(rows.x), high_bf16(rows.x), low_bf16(rows.y), high_bf16(rows.y));
}

}  // namespace causeway::cuda
