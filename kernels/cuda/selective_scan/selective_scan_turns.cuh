#pragma once

#include <type_traits>

#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/device/tensor_core_tf32.cuh"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// The layout of the backward pass in turns (selective_scan_turns.cu): bf16, 16 states, channels in blocks of 16.
///
///   step   16 tokens of the block's 16 channels
///   team   4 warps, which compute every second step; two teams alternate
///   rank   which of a step's tokens a warp has: rank r has the tokens 4r … 4r + 3. In the team's next step it has rank
///          3 - r. Ranks 0 and 1 are low, 2 and 3 are high
///   turn   the time in which a warp advances h (from rank 0 to rank 3) or g (from rank 3 to rank 0, and on to rank 3
///          of the other team) over its 4 tokens; the next warp waits for it
///   pair   two neighbouring channels, which a lane holds together
///
/// h begins each step from the state that the forward pass saved, so only the turns of g follow each other over the
/// whole run. While one team takes its turns of g, the other one does the work that does not wait.
///
/// Why the ranks alternate: rank 3 is the first to finish a step, because its turn of g comes first, and rank 0 is the
/// first one whose h the next step needs. A low rank waits long for its turn of g. So between its two turns it does
/// work per token and channel of its high steps: it writes the gradients of the one before, and converts the inputs of
/// the next one.
namespace causeway::cuda {

inline constexpr int turn_channels = 16;  ///< channels of a block of threads
inline constexpr int turn_states = 16;    ///< states of a channel
inline constexpr int turn_warps = 8, team_warps = turn_warps / 2;
inline constexpr int turn_tokens = 4, turn_step = team_warps * turn_tokens;
inline constexpr int part_states = 4, lane_chains = 2 * part_states;  ///< states of a channel, of a pair
static_assert(selective_scan_block == turn_step);

/// A lane's place. Lane 8k + p has the states 4k … 4k + 3 (part k) of the pair of channels 2p and 2p + 1 of the block,
/// for the warp's 4 tokens: 8 chains. For work per token and channel it has token k of the pair.
struct TurnLane {
  int lane, warp, part, pair, team, rank;

  __device__ bool high() const { return rank >= team_warps / 2; }
};

/// The channel (of the pair) and the state (of the part) of chain j. Chains 0 … 3 and 4 … 7 are in the order of an
/// operand A of mma_tf32: its columns are channels, its rows are states.
__host__ __device__ constexpr int channel_of(int j) { return j / 2 % 2; }
__host__ __device__ constexpr int state_of(int j) { return j / 4 * 2 + j % 2; }
__host__ __device__ constexpr int chain_of(int state, int channel) { return state / 2 * 4 + 2 * channel + state % 2; }

/// The raw inputs of a warp's tokens for one step.
struct alignas(16) TurnStage {
  std::uint32_t delta[32], u[32], z[32], dy[32];  // lane 8k + p: token k, channels 2p and 2p + 1
  uint2 rows[32];                                 // B, then C: [token][state]
  uint4 starts;                                   // bit k of each word: token k is the first of its document
};

/// The same as numbers.
struct alignas(16) TurnInputs {
  float delta[2][32], x[2][32], ds[2][32];  // [channel of the pair][4 pair + token]
  float B[turn_tokens][turn_states], C[turn_tokens][turn_states];
  float4 kept[32];      // softplus' slope, then dy·silu'(z), of the lane's own token and channels
  std::uint32_t u[32];  // raw, likewise
};

/// Where a lane reads or writes 16 bytes of a row of a tensor in every step.
struct alignas(16) TurnRows {
  char* base;    // for token 0 (step 0)
  unsigned row;  // bytes from one token (step) to the next

  template <class T>
  __device__ void set(T* first, std::int64_t stride) {
    base = reinterpret_cast<char*>(const_cast<std::remove_const_t<T>*>(first));
    row = static_cast<unsigned>(stride * sizeof(T));
  }
  __device__ char* at(int token) const { return base + std::uint64_t{static_cast<unsigned>(token)} * row; }
};

/// The shared memory of a warp.
struct alignas(16) TurnWarpMemory {
  float4 g_sums[turn_tokens][32];  // ⟨g, B⟩ of both channels, then ΣA p of both, over each lane's states
  float2 y_sums[turn_tokens][40];  // ⟨C, h⟩ likewise; two rows are read from different banks because of the padding
  TurnInputs inputs[2];            // of a step of low rank, of high rank
  TurnStage stages[2];             // likewise
  float4 sums[32];                 // Σ ds u and Σ d_delta of the lane's channels
  TurnRows pieces[4][32];          // where each lane copies from: inputs, B and C; where it writes to; saved states
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
  LaneOctets h[2][2][team_warps - 1];   // h before the tokens of ranks 1 … 3: [step][team][rank - 1]
  float2 saved[2][4][part_states][32];  // h before a step, as it was saved: [team][step][state of the part][lane]
  LaneOctets g;                         // the adjoint that enters the next warp's tokens from the right
  LaneOctets rates;
  float4 channels[8];  // bias of both channels of a pair, then D
};

static_assert(2 * (sizeof(TurnMemory) + 1024) <= 228 * 1024);  // two blocks of threads on a multiprocessor

/// What the kernel reads and writes besides the inputs.
struct TurnRun {
  const bf16* d_y;
  bf16 *d_u, *d_delta, *d_z;
  std::int64_t d_y_stride, d_u_stride, d_delta_stride, d_z_stride;
  const float* states;  ///< saved by the forward pass: [blocks of tokens][N][channels]
  std::int64_t states_stride;
  const uint4* starts;         ///< bit k of word s: token 4 s + k is the first of its document; four copies
  RunPieces pieces;            ///< one for each blockIdx.y
  PieceStates adjoint;         ///< what enters them from the right
  float* leave;                ///< the adjoint that leaves the run to the left, [channels][N]; or null
  std::int64_t leave_channel;  ///< its stride
  uint2* rows;                 ///< [blocks of channels][groups of 4 tokens][32 lanes]: d_B and d_C, PackedQuad
  float* parameters;           ///< [pieces][N + 2][channels]: d_A, d_D, d_delta_bias
  int once = 1;                ///< see wait_for_turn
};

/// Waits for the turn that another warp passes on. A loop, whose end the compiler does not know, keeps it from moving
/// work that comes before the turn into it. `once` is 1.
__device__ inline void wait_for_turn(int barrier, bool needed, int& once) {
  if (!needed) return;
#pragma unroll 1
  do {
    wait_at_barrier<64>(barrier);
    asm volatile("" : "+r"(once));
  } while (once != 1);
}
__device__ inline void pass_turn(int barrier, bool needed, int& once) {
  if (!needed) return;
#pragma unroll 1
  do {
    arrive_at_barrier<64>(barrier);
    asm volatile("" : "+r"(once));
  } while (once != 1);
}
/// The barriers: 1 to 6 for h, 7 to 14 for g. Rank 0 of the next step may wait for its turn of g before rank 0 of this
/// step does, so each warp has its own barrier for g. It cannot for h: rank 1 has waited before.
__device__ inline int turn_of_h(int team, int rank) { return team * (team_warps - 1) + rank; }
__device__ inline int turn_of_g(int warp) { return 2 * team_warps - 1 + warp; }
/// The warp that has a rank in a step.
__device__ inline int warp_of(int step, int rank) { return (step & 1) * team_warps + (rank ^ (step >> 1 & 1) * 3); }

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

__device__ inline void fill(float (&to)[4], const float4& from) {
  to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
}

}  // namespace causeway::cuda
