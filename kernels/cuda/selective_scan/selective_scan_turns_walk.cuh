#pragma once

#include "kernels/cuda/selective_scan/selective_scan_turns.cuh"

/// What a warp of the backward pass in turns computes for its 4 tokens.
namespace causeway::cuda {

/// The columns of token i in the products that sum over channels: 2i and 2i + 1.
__device__ inline float2 one_hot(const TurnLane& l, int i) {
  const bool own = l.lane >> 3 == i;
  return make_float2(own ? l.even : 0, own ? 1 - l.even : 0);
}

/// acc += the sums over the warp's channels of 4 states of token i, in the columns of the token.
template <bool Starts>
__device__ void add_over_channels(float (&acc)[4], const float (&v)[4], float2 one_hot, bool own) {
  if constexpr (Starts) {  // 0·NaN of another document must not enter
    float sum[4] = {};
    mma_tf32(sum, v, one_hot.x, one_hot.y);
#pragma unroll
    for (int j = 0; j < 4; ++j) acc[j] = own ? sum[j] : acc[j];
  } else {
    mma_tf32(acc, v, one_hot.x, one_hot.y);
  }
}

/// The chains of 4 tokens: both turns and all sums.
template <bool Starts>
__device__ void walk_tokens(TurnMemory& shared, const TurnLane& l, int step, int once, bool first_step, bool last_step,
                            unsigned starts, float (&d_A)[lane_chains], float (&d_B)[4], float (&d_C)[4]) {
  TurnWarpMemory& own = shared.warps[l.warp];
  float a[turn_tokens][lane_chains], h[turn_tokens][lane_chains];
  const auto is_start = [&](int i) { return Starts && (starts >> i & 1) != 0; };
  const auto per_token = [&](const float(&rows)[2][32], float(&to)[2][4]) {
    fill(to[0], *reinterpret_cast<const float4*>(&rows[0][4 * l.pair]));
    fill(to[1], *reinterpret_cast<const float4*>(&rows[1][4 * l.pair]));
  };
  const auto per_state = [&](const float(&rows)[turn_tokens][turn_states], int i, float(&to)[4]) {
    fill(to, *reinterpret_cast<const float4*>(&rows[i][part_states * l.part]));
  };
  const int parity = step >> 1 & 1;
  LaneOctets& h_entering = shared.h[parity][l.warp];
  LaneOctets& g_entering = shared.g[parity][l.warp];

  // 2. exp(ΔA) and Δ u B.
  {
    float rate[lane_chains], delta[2][4], x[2][4];
    shared.rates.load(l.lane, rate);
    per_token(own.delta, delta);
    per_token(own.x, x);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) {
      float b[4];
      per_state(own.B, i, b);
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        a[i][j] = settled_exponential(delta[j % 2][i] * rate[j]);
        h[i][j] = x[j % 2][i] * b[j / 2];
      }
      settle(h[i]);
    }
  }
  // 3. The turn of h, from the first warp to the last.
  {
    wait_for_turn(1 + l.warp, l.rank != 0 ? once : 0);
    float carry[lane_chains];
    h_entering.load(l.lane, carry);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i)
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        if (!is_start(i)) h[i][j] += a[i][j] * carry[j];
        carry[j] = h[i][j];
      }
    if (l.rank != team_warps - 1) shared.h[parity][l.warp + 1].store(l.lane, carry);
    pass_turn(2 + l.warp, l.rank != team_warps - 1 ? once : 0);
  }
  // 4. ⟨C, h⟩ and d_C.
  float ds[2][4], cs[turn_tokens][part_states];
  per_token(own.ds, ds);
#pragma unroll
  for (int i = 0; i < turn_tokens; ++i) {
    per_state(own.C, i, cs[i]);
    float y[2] = {}, over_channels[4];
#pragma unroll
    for (int s = 0; s < part_states; ++s) {
      y[0] += cs[i][s] * h[i][2 * s];
      y[1] += cs[i][s] * h[i][2 * s + 1];
      over_channels[s] = ds[0][i] * h[i][2 * s] + ds[1][i] * h[i][2 * s + 1];
    }
    own.y_sums[i][l.lane ^ i % 2 * 8] = make_float2(y[0], y[1]);
    add_over_channels<Starts>(d_C, over_channels, one_hot(l, i), (l.lane & 3) == i);
  }
  // 5. The turn of g, from the last warp to the first: g replaces exp(ΔA), and exp(ΔA) g h_{t-1} replaces h_{t-1}.
  float first_g[lane_chains];
  {
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) settle(cs[i]);
    float g[lane_chains];
    wait_for_turn(turn_of_g(l.warp), l.rank != team_warps - 1 || !first_step ? once : 0);
    g_entering.load(l.lane, g);
#pragma unroll
    for (int i = turn_tokens - 1; i >= 0; --i)
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        const float decay = a[i][j];
        a[i][j] = g[j] + ds[j % 2][i] * cs[i][j / 2];
        g[j] = is_start(i) ? 0 : a[i][j] * decay;
        if (i > 0) h[i - 1][j] = g[j] * (is_start(i) ? 0 : h[i - 1][j]);
      }
    const int to = l.rank != 0 ? l.warp - 1 : (l.team ^ 1) * team_warps + team_warps - 1;
    shared.g[l.rank != 0 ? parity : (step - 1) >> 1 & 1][to].store(l.lane, g);
    pass_turn(turn_of_g(to), l.rank != 0 || !last_step ? once : 0);
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) first_g[j] = g[j];
  }
  // 6. d_B, d_A, ⟨g, B⟩ and ΣA p.
  {
    float before[lane_chains], rate[lane_chains], x[2][4], delta[2][4];
    h_entering.load(l.lane, before);
    shared.rates.load(l.lane, rate);
    per_token(own.x, x);
    per_token(own.delta, delta);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) {
      float b[4], gB[2] = {}, gA[2] = {}, over_channels[4];
      per_state(own.B, i, b);
#pragma unroll
      for (int s = 0; s < part_states; ++s) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int j = 2 * s + c;
          gB[c] += a[i][j] * b[s];
          const float through = i > 0 ? h[i > 0 ? i - 1 : 0][j] : first_g[j] * (is_start(0) ? 0 : before[j]);
          gA[c] += through * rate[j];
          d_A[j] += through * delta[c][i];
        }
        over_channels[s] = a[i][2 * s] * x[0][i] + a[i][2 * s + 1] * x[1][i];
      }
      own.g_sums[i][l.lane] = make_float4(gB[0], gB[1], gA[0], gA[1]);
      add_over_channels<Starts>(d_B, over_channels, one_hot(l, i), (l.lane & 3) == i);
    }
  }
}

}  // namespace causeway::cuda
