#pragma once

#include <utility>

#include "kernels/cuda/selective_scan/selective_scan_backward.cuh"

/// The steps of the backward pass over a group of 4 tokens, in the layout of selective_scan_backward.cuh.
namespace causeway::cuda {

/// What a lane keeps in registers of its 2 channels and their 4 states.
template <class R>
struct LaneState {
  R rate[lane_channels][lane_states], h[lane_channels][lane_states];
  R g[lane_channels][lane_states], d_A[lane_channels][lane_states];
};

/// Sums over the states of a lane's two channels at one token.
template <class R>
struct ChannelSums {
  Pair<R> s, gB, gA;  ///< ⟨C, h⟩, ⟨g, B⟩, Σ g A exp(ΔA) h_{t-1} · log2(e)
};

/// The tokens of a group as constants: step.operator()<i>() for each i, from the first to the last or back.
using Tokens = std::make_integer_sequence<int, group_tokens>;
template <class Step, int... i>
__device__ __forceinline__ void in_order(const Step& step, std::integer_sequence<int, i...>) {
  (step.template operator()<i>(), ...);
}
template <class Step, int... i>
__device__ __forceinline__ void in_reverse(const Step& step, std::integer_sequence<int, i...>) {
  (step.template operator()<group_tokens - 1 - i>(), ...);
}

/// h of 4 tokens from `first` on. `starts`: bit i is set if token first + i is the first of its document.
template <bool Starts, class R, class S>
__device__ __forceinline__ void sweep_group(const S& shared, int first, unsigned starts, int part, int column,
                                            LaneState<R>& x) {
#pragma unroll
  for (int i = 0; i < group_tokens; ++i) {
    const int k = first + i;
    const Pair<R> delta = shared.delta[k][column], u = shared.u[k][column];
    const Quad<R> b = shared.B[k][part];
    const bool starting = Starts && (starts >> i & 1);
#pragma unroll
    for (int c = 0; c < lane_channels; ++c) {
      const R input = delta.at[c] * u.at[c];
#pragma unroll
      for (int m = 0; m < lane_states; ++m) {
        const R before = starting ? R(0) : x.h[c][m];
        x.h[c][m] = exponential_base_2(delta.at[c] * x.rate[c][m]) * before + input * b.at[m];
      }
    }
  }
}

/// 4 tokens from `first` on, from h before them: forward, then backward. Returns the lane's sums for token
/// first + part; `d_B` and `d_C` receive the sums over channels for token first + lane % 4.
template <bool Starts, class R, class S, class Sums>
__device__ __forceinline__ ChannelSums<R> scan_group(const S& shared, int first, unsigned starts, int lane, int column,
                                                     LaneState<R>& x, Sums& quads, Quad<R>& d_B, Quad<R>& d_C) {
  const int part = lane / 8;
  R before[group_tokens][lane_channels][lane_states], decay[group_tokens][lane_channels][lane_states];
  R s[2 * group_tokens] = {}, gB[2 * group_tokens] = {}, gA[2 * group_tokens] = {};
  // Forward: h and exp(ΔA) stay in registers; s = ⟨C, h⟩ and d_C = d_s h.
  quads.clear();
  const auto forward = [&]<int i> {
    const int k = first + i;
    const Pair<R> delta = shared.delta[k][column], u = shared.u[k][column], ds = shared.ds[k][column];
    const Quad<R> b = shared.B[k][part], cs = shared.C[k][part];
    const bool starting = Starts && (starts >> i & 1);
    R over_channels[lane_states] = {};
#pragma unroll
    for (int c = 0; c < lane_channels; ++c) {
      const R input = delta.at[c] * u.at[c];
#pragma unroll
      for (int m = 0; m < lane_states; ++m) {
        before[i][c][m] = starting ? R(0) : x.h[c][m];
        decay[i][c][m] = exponential_base_2(delta.at[c] * x.rate[c][m]);
        x.h[c][m] = decay[i][c][m] * before[i][c][m] + input * b.at[m];
        s[2 * i + c] += cs.at[m] * x.h[c][m];
        over_channels[m] = c == 0 ? ds.at[c] * x.h[c][m] : over_channels[m] + ds.at[c] * x.h[c][m];
      }
    }
    quads.template add<i>(over_channels, lane);
  };
  in_order(forward, Tokens());
  constexpr R correction = Sums::correction;
  d_C = {{quads.sum[0] * correction, quads.sum[1] * correction, quads.sum[2] * correction, quads.sum[3] * correction}};
  sum_over_parts<8>(s, part);
  // Backward: the adjoint g, d_B = g Δ u and, summed over states, ⟨g, B⟩ and the term of A.
  quads.clear();
  const auto backward = [&]<int i> {
    const int k = first + i;
    const Pair<R> delta = shared.delta[k][column], u = shared.u[k][column], ds = shared.ds[k][column];
    const Quad<R> b = shared.B[k][part], cs = shared.C[k][part];
    const bool starting = Starts && (starts >> i & 1);
    R over_channels[lane_states] = {};
#pragma unroll
    for (int c = 0; c < lane_channels; ++c) {
      const R input = delta.at[c] * u.at[c];
#pragma unroll
      for (int m = 0; m < lane_states; ++m) {
        R g = x.g[c][m] + ds.at[c] * cs.at[m];
        over_channels[m] = c == 0 ? g * input : over_channels[m] + g * input;
        gB[2 * i + c] += g * b.at[m];
        g *= decay[i][c][m];
        const R through = g * before[i][c][m];
        gA[2 * i + c] += through * x.rate[c][m];
        x.d_A[c][m] += through * delta.at[c];
        x.g[c][m] = starting ? R(0) : g;
      }
    }
    quads.template add<i>(over_channels, lane);
  };
  in_reverse(backward, Tokens());
  d_B = {{quads.sum[0] * correction, quads.sum[1] * correction, quads.sum[2] * correction, quads.sum[3] * correction}};
  sum_over_parts<8>(gB, part);
  sum_over_parts<8>(gA, part);
  return {{s[0], s[1]}, {gB[0], gB[1]}, {gA[0], gA[1]}};
}

}  // namespace causeway::cuda
