#pragma once

#include "kernels/cuda/selective_scan/selective_scan_walk.cuh"

namespace causeway::cuda {

/// The scan warps' part of a walk without turns: h of the warp's unit stays in its registers. A tile is one block of
/// tokens, before which h is saved.
///
/// Warp instructions for 4 tokens of a unit: 160 of arithmetic (exp(ΔA) 2; Δ u B, h and ⟨C, h⟩ 1 for each element and
/// state), 14 accesses to shared memory in 32 cycles (B and C 4 each, Δ, Δu and y 2 each), and a quarter of the 40 of a
/// tile for saved states, addresses and barriers. The 32 exponentials take 256 clocks of a scheduler.
///
/// registers: 4 tokens' decays and inputs, which become h, of the lane's two channels; h; the rates (so one function)
template <class Shape>
__device__ void walk_over_states_alone(const ScanInputs<bf16>& in, const WalkRun& run, const WalkPiece& piece,
                                       WalkMemory<Shape>& shared) {
  static_assert(Shape::turns == 1 && Shape::tile == selective_scan_block && Shape::lane_channels == 2);
  constexpr int N = Shape::lane_states, row = Shape::states / 4, odd = Shape::channels / 2;
  const ScanLane<Shape> lane;
  const std::int64_t channel = lane.channel();
  const int real_states = channel < in.channels ? min(N, in.states - lane.first_state()) : 0;
  const EnteringState enter = run.enter.left_of(run.pieces, blockIdx.y);
  float rate[2][N], h[2][N];
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int m = 0; m < N; ++m) {
      const int n = lane.first_state() + m;
      rate[c][m] = m < real_states ? in.rate(channel + c, n) : 0.0f;
      h[c][m] = m < real_states ? enter(channel + c, n) : 0.0f;
    }
  float* to =
      run.saved + piece.begin / selective_scan_block * run.saved_stride + lane.first_state() * in.channels + channel;
  for (unsigned tile = 0; tile < static_cast<unsigned>(piece.tiles); ++tile) {
    // 1. Save the state before the tile for the backward pass, unless the tile begins before the piece.
    if (run.saved != nullptr) {
#pragma unroll
      for (int m = 0; m < N; ++m)
        if (m < real_states && (tile > 0 || piece.before == 0))
          *reinterpret_cast<float2*>(to + m * in.channels) = make_float2(h[0][m], h[1][m]);
      to += run.saved_stride;
    }
    shared.full[tile % Shape::stages].wait(tile / Shape::stages % 2);
    const unsigned at = tile % Shape::stages * unsigned{Shape::groups * sizeof(shared.group[0])};
    // 2. Advance by the tile. If no document starts in it, all of it is one sequence of instructions without branches.
    // The products and sums are the same at each place in a tile, so a document's y does not depend on where it starts.
    const auto advance = [&]<bool Starts>(int quad) {
      constexpr int quads = walk_group / 4;
      const int q = quad % quads;
      auto& group = displaced(shared.group[quad / quads], at);
      const std::uint32_t starts = Starts ? group.starts >> 4 * q : 0;
      const auto* const B = reinterpret_cast<const Quad<float>*>(&group.B[4 * q][lane.first_state()]);
      const auto* const C = reinterpret_cast<const Quad<float>*>(&group.C[4 * q][lane.first_state()]);
      const Quad<float> delta[2] = {group.delta[q][lane.slot], group.delta[q][lane.slot + odd]},
                        x[2] = {group.x[q][lane.slot], group.x[q][lane.slot + odd]};
      float decay[4][2][N], states[4][2][N];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Quad<float> entries = B[i * row];
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
          for (int m = 0; m < N; ++m) {
            decay[i][c][m] = exponential_base_2(delta[c].at[i] * rate[c][m]);
            states[i][c][m] = x[c].at[i] * entries.at[m];
          }
      }
      Quad<float> y[2] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Quad<float> entries = C[i * row];
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
          for (int m = 0; m < N; ++m) {
            h[c][m] = __fmaf_rn(decay[i][c][m], starts >> i & 1 ? 0.0f : h[c][m], states[i][c][m]);
            y[c].at[i] = __fmaf_rn(entries.at[m], h[c][m], y[c].at[i]);
          }
      }
      group.y[lane.part][q][lane.y_slot()] = y[0];
      group.y[lane.part][q][lane.y_slot() + odd] = y[1];
    };
    std::uint32_t starts = 0;
#pragma unroll
    for (int g = 0; g < Shape::groups; ++g) starts |= displaced(shared.group[g].starts, at);
    if (starts == 0) {
#pragma unroll
      for (int quad = 0; quad < Shape::tile / 4; ++quad) advance.template operator()<false>(quad);
    } else {
#pragma unroll 1
      for (int quad = 0; quad < Shape::tile / 4; ++quad) advance.template operator()<true>(quad);
    }
    shared.done[tile % Shape::stages].arrive_as_warp();
  }
  // 3. The state that leaves the run.
  if (run.leave == nullptr || run.pieces.end[blockIdx.y] != in.segments.tokens) return;
#pragma unroll
  for (int c = 0; c < 2; ++c)
#pragma unroll
    for (int m = 0; m < N; ++m)
      if (m < real_states) run.leave[(channel + c) * run.leave_channel + lane.first_state() + m] = h[c][m];
}

}  // namespace causeway::cuda
