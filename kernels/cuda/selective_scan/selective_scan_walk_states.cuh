#pragma once

#include "kernels/cuda/selective_scan/selective_scan_walk.cuh"

namespace causeway::cuda {

/// The scan warps' part of the walk: h of the warp's unit, and y's sums over the states of a lane.
///
/// The decays of a group do not depend on h. So a warp computes them while an earlier warp has its turn, waits for the
/// state, advances it by the group's 8 tokens, hands it on, and computes y while the next warp has its turn.
///
/// registers: 8 tokens' decays and inputs, which become h, of the lane's states; the rates
/// One function, because its phases share these registers.
template <class Shape>
__device__ void walk_over_states(const ScanInputs<bf16>& in, const WalkRun& run, const WalkPiece& piece,
                                 WalkMemory<Shape>& shared) {
  constexpr int N = Shape::lane_states;
  constexpr unsigned turns = Shape::turns, groups = Shape::groups, ring = Shape::stages * groups;
  const ScanLane<Shape> l;
  const int lane = l.lane, warp = l.warp, unit = l.unit, turn = l.turn, part = l.part, slot = l.slot,
            first_state = l.first_state();
  const std::int64_t channel = l.channel();
  const int real_states = channel < in.channels ? min(N, in.states - first_state) : 0;
  const int barrier_before =
      (turn + Shape::turns - 1) % Shape::turns * Shape::units + unit;  // a scan warp arrives at its own number
  Quad<float>* const handoff = &shared.handoff[0][0] + __shfl_sync(~0u, 32 * unit + lane, lane);

  const EnteringState enter = run.enter.left_of(run.pieces, blockIdx.y);
  float rate[N];
#pragma unroll
  for (int m = 0; m < N; ++m) {
    const int n = first_state + m;
    rate[m] = m < real_states ? in.rate(channel, n) : 0.0f;
    if (turn == 0)  // the state that enters the piece
      handoff->at[m] = m < real_states ? enter(channel, n) : 0.0f;
  }
  const std::int64_t first_saved =
      piece.begin / selective_scan_block * run.saved_stride + first_state * in.channels + channel;
  unsigned n = static_cast<unsigned>(turn);  // the warp's group of the piece
  unsigned at;                               // where it is in the ring, in bytes
  const auto save = [&](const Quad<float>& h) {
    float* to = run.saved + first_saved + n / (selective_scan_block / walk_group) * run.saved_stride;
#pragma unroll
    for (int m = 0; m < N; ++m, to += in.channels)
      if (m < real_states) *to = h.at[m];
  };
  float decay[walk_group][N], states[walk_group][N];
  std::uint32_t starts;
  const auto prepare = [&] {
    at = n % ring * unsigned{sizeof(shared.group[0])};
    starts = displaced(shared.group[0].starts, at);
    const Quad<float>* const delta = &displaced(shared.group[0].delta[0][slot], at);
    const Quad<float>* const x = &displaced(shared.group[0].x[0][slot], at);
    const auto* const B = reinterpret_cast<const Quad<float>*>(&displaced(shared.group[0].B[0][first_state], at));
#pragma unroll
    for (int i = 0; i < walk_group; ++i) {
      const Quad<float> entries = B[i * (Shape::states / 4)];
#pragma unroll
      for (int m = 0; m < N; ++m) {
        decay[i][m] = exponential_base_2(delta[i / 4 * Shape::channels].at[i % 4] * rate[m]);
        states[i][m] = x[i / 4 * Shape::channels].at[i % 4] * entries.at[m];
      }
    }
  };
  const unsigned count = static_cast<unsigned>(piece.tiles * Shape::groups);
  // The first tile may begin before the piece, and the last one has groups beyond it: nothing is saved before them.
  const unsigned first_saved_group = piece.before > 0 ? 1 : 0;
  const unsigned saved_groups =
      run.saved != nullptr ? static_cast<unsigned>((piece.tokens + walk_group - 1) / walk_group) - first_saved_group
                           : 0;
  const auto wait_for_tile = [&] { shared.full[n / groups % Shape::stages].wait(n / ring % 2); };
  if (n >= count) return;
  wait_for_tile();
  prepare();
  while (true) {
    // 1. Wait for the turn, take over the state, advance it, and hand it on: h = exp(ΔA) h + Δ u B. The next warp waits
    // for these instructions, so there are no others among them.
    Quad<float> h;
    const auto take_turn = [&](std::uint32_t starts_here) {
      if (n > 0) wait_at_barrier<64>(barrier_before);
      h = *handoff;
#pragma unroll
      for (int i = 0; i < walk_group; ++i)
#pragma unroll
        for (int m = 0; m < N; ++m)
          states[i][m] += decay[i][m] * (starts_here >> i & 1 ? 0.0f : i == 0 ? h.at[m] : states[i - 1][m]);
      const auto& last = states[walk_group - 1];
      *handoff = {last[0], last[1], last[2], last[3]};
      if (n + 1 < count) arrive_at_barrier<64>(warp);
    };
    if (starts == 0)
      take_turn(0);
    else
      take_turn(starts);
    // 2. Save the state before every block of tokens for the backward pass.
    if (n % (selective_scan_block / walk_group) == 0 && n - first_saved_group < saved_groups) save(h);
    // 3. y = ⟨C, h⟩ over the lane's states.
    const auto* const C = reinterpret_cast<const Quad<float>*>(&displaced(shared.group[0].C[0][first_state], at));
    Quad<float>* const to = &displaced(shared.group[0].y[part][0][l.y_slot()], at);
#pragma unroll
    for (int quad = 0; quad < walk_group / 4; ++quad) {
      Quad<float> y;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Quad<float> entries = C[(4 * quad + i) * (Shape::states / 4)];
        y.at[i] = 0;
#pragma unroll
        for (int m = 0; m < N; ++m) y.at[i] += entries.at[m] * states[4 * quad + i][m];
      }
      to[quad * Shape::channels] = y;
    }
    // 4. Decays exp(ΔA) and inputs Δ u B of the warp's next group. They end the loop's body because the compiler would
    // move some of the exponentials behind the wait, where they delay the next warp's turn.
    const unsigned tile = n / groups;
    n += turns;
    if (n / groups != tile) {
      shared.done[tile % Shape::stages].arrive_as_warp();
      if (n >= count) break;
      wait_for_tile();
    }
    prepare();
  }
  // 5. The warp with the last group of the run writes the state that leaves it.
  if (run.leave != nullptr && n - turns + 1 == count && run.pieces.end[blockIdx.y] == in.segments.tokens)
#pragma unroll
    for (int m = 0; m < N; ++m)
      if (m < real_states) run.leave[channel * run.leave_channel + first_state + m] = states[walk_group - 1][m];
}

}  // namespace causeway::cuda
