#pragma once

#include "kernels/cuda/selective_scan/selective_scan_turns_rows.cuh"

/// What a warp of the backward pass in turns computes for its 4 tokens.
namespace causeway::cuda {

/// acc += the sums over the warp's channels of v w, for all 4 states of token i. w holds the factors of the lane's own
/// token and channels (`mine`: it is token i). Chains 0 … 3 and 4 … 7 are each an operand A; column 2i + half of
/// operand B has w of token i and of one half of the channels, its other columns are zero. Of the result [row][column],
/// only the elements whose row and column belong to the same half of the channels mean something: element `half` or 2 +
/// half of a lane, where half is bit 2 of its number. The lanes with number % 4 = i have them (`own`).
template <bool Starts>
__device__ inline void add_over_channels(float (&acc)[2][4], const float (&v)[lane_chains], const float (&w)[2],
                                         bool mine, bool own) {
  const float b0 = mine ? w[0] : 0, b1 = mine ? w[1] : 0;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    if constexpr (Starts) {  // 0·NaN of another document must not enter
      float sum[4] = {};
      mma_tf32(sum, v + 4 * m, b0, b1);
#pragma unroll
      for (int j = 0; j < 4; ++j) acc[m][j] = own ? sum[j] : acc[m][j];
    } else {
      mma_tf32(acc[m], v + 4 * m, b0, b1);
    }
  }
}

/// A warp's 4 tokens of a step.
struct TurnGroup {
  int step, first;     ///< first: the first of the tokens
  bool waits, passes;  ///< whether the turn of g waits for another one, and another one for it
  int g_to;            ///< the barrier of the warp that has the next turn of g
  unsigned starts;     ///< bit k: token k is the first of its document
};

/// The chains of 4 tokens: both turns and all sums. `between` is called between the turns.
/// One function, because its phases share registers.
template <bool Starts, class Between>
__device__ void walk_tokens(TurnMemory& shared, const TurnLane& l, const TurnGroup& group, int& once,
                            float (&d_A)[lane_chains], float (&d_B)[2][4], float (&d_C)[2][4], Between&& between) {
  TurnWarpMemory& own = shared.warps[l.warp];
  TurnInputs& inputs = own.inputs[l.high()];
  const int parity = group.step >> 1 & 1;
  float a[turn_tokens][lane_chains], h[turn_tokens][lane_chains];
  const auto is_start = [&](int i) { return Starts && (group.starts >> i & 1) != 0; };
  const auto per_token = [&](const float(&rows)[2][32], float(&to)[2][4]) {
    fill(to[0], *reinterpret_cast<const float4*>(&rows[0][4 * l.pair]));
    fill(to[1], *reinterpret_cast<const float4*>(&rows[1][4 * l.pair]));
  };
  const auto own_token = [&](const float(&rows)[2][32], float(&to)[2]) {
    to[0] = rows[0][4 * l.pair + l.part];
    to[1] = rows[1][4 * l.pair + l.part];
  };
  const auto per_state = [&](const float(&rows)[turn_tokens][turn_states], int i, float(&to)[4]) {
    fill(to, *reinterpret_cast<const float4*>(&rows[i][part_states * l.part]));
  };
  const auto load_h = [&](float(&to)[lane_chains]) {
    if (l.rank == 0) {
#pragma unroll
      for (int s = 0; s < part_states; ++s) {
        const float2 pair = shared.saved[l.team][group.step >> 1 & 3][s][l.lane];
        to[chain_of(s, 0)] = pair.x, to[chain_of(s, 1)] = pair.y;
      }
    } else {
      shared.h[parity][l.team][l.rank - 1].load(l.lane, to);
    }
  };

  // 2. exp(ΔA) and Δ u B.
  {
    float rate[lane_chains], delta[2][4], x[2][4];
    shared.rates.load(l.lane, rate);
    per_token(inputs.delta, delta);
    per_token(inputs.x, x);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) {
      float b[4];
      per_state(inputs.B, i, b);
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        a[i][j] = settled_exponential(delta[channel_of(j)][i] * rate[j]);
        h[i][j] = x[channel_of(j)][i] * b[state_of(j)];
      }
      settle(h[i]);
    }
  }
  // 3. The turn of h, from rank 0 to rank 3.
  {
    wait_for_turn(turn_of_h(l.team, l.rank), l.rank != 0, once);
    float carry[lane_chains];
    load_h(carry);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i)
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        if (!is_start(i)) h[i][j] += a[i][j] * carry[j];
        carry[j] = h[i][j];
      }
    if (l.rank != team_warps - 1) shared.h[parity][l.team][l.rank].store(l.lane, carry);
    pass_turn(turn_of_h(l.team, l.rank + 1), l.rank != team_warps - 1, once);
  }
  between();
  // 4. ⟨C, h⟩ and d_C.
  float ds[2][4], cs[turn_tokens][part_states];
  per_token(inputs.ds, ds);
  {
    float own_ds[2];
    own_token(inputs.ds, own_ds);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) {
      per_state(inputs.C, i, cs[i]);
      float y[2] = {};
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) y[channel_of(j)] += cs[i][state_of(j)] * h[i][j];
      own.y_sums[i][l.lane] = make_float2(y[0], y[1]);
      add_over_channels<Starts>(d_C, h[i], own_ds, l.part == i, (l.lane & 3) == i);
    }
  }
  // exp(ΔA) h_{t-1} replaces h_{t-1}; the compiler takes it from the turn of h.
#pragma unroll
  for (int i = 1; i < turn_tokens; ++i) {
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) h[i - 1][j] = is_start(i) ? 0 : a[i][j] * h[i - 1][j];
    settle(h[i - 1]);
  }
  // 5. The turn of g, from rank 3 to rank 0: g replaces exp(ΔA).
  float first_g[lane_chains];
  {
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) settle(cs[i]);
    float g[lane_chains];
    wait_for_turn(turn_of_g(l.warp), group.waits, once);
    shared.g.load(l.lane, g);
#pragma unroll
    for (int i = turn_tokens - 1; i >= 0; --i)
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        const float decay = a[i][j];
        a[i][j] = g[j] + ds[channel_of(j)][i] * cs[i][state_of(j)];
        g[j] = is_start(i) ? 0 : a[i][j] * decay;
      }
    shared.g.store(l.lane, g);
    pass_turn(group.g_to, group.passes, once);
#pragma unroll
    for (int j = 0; j < lane_chains; ++j) first_g[j] = g[j];
  }
  // 6. d_B, d_A, ⟨g, B⟩ and ΣA p.
  {
    float before[lane_chains], rate[lane_chains], delta[2][4], own_x[2];
    load_h(before);
    shared.rates.load(l.lane, rate);
    per_token(inputs.delta, delta);
    own_token(inputs.x, own_x);
#pragma unroll
    for (int i = 0; i < turn_tokens; ++i) {
      float b[4], gB[2] = {}, gA[2] = {};
      per_state(inputs.B, i, b);
#pragma unroll
      for (int j = 0; j < lane_chains; ++j) {
        const int c = channel_of(j);
        gB[c] += a[i][j] * b[state_of(j)];
        const float through = i > 0 ? a[i][j] * h[i > 0 ? i - 1 : 0][j] : first_g[j] * (is_start(0) ? 0 : before[j]);
        gA[c] += through * rate[j];
        d_A[j] += through * delta[c][i];
      }
      own.g_sums[i][l.lane] = make_float4(gB[0], gB[1], gA[0], gA[1]);
      add_over_channels<Starts>(d_B, a[i], own_x, l.part == i, (l.lane & 3) == i);
    }
  }
}

}  // namespace causeway::cuda
