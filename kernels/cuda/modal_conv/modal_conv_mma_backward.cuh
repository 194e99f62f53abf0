#pragma once

#include "kernels/cuda/modal_conv/modal_conv_mma_pieces.cuh"

/// d_k, d_v and the parameters' gradients from right to left; d_q = d_y ⊙ c is the forward with d_y in q's place.
///
/// dc = q ⊙ d_y is loaded by places (token 15 - place), so that the operands of the forward make the adjoint's sums and
/// d_x by tokens: Σ_i λ^i dc_i, and d_x_j = Σ_i h[i - j] dc_i + Σ_m λ^(15-j) G. G(n) = ∂loss/∂(state after tile n).
///
/// Parameters, with s(n) the state before tile n, from the states that the forward saved:
/// - W[lag] = Σ dc_i x_(i-lag) within tiles: a product over tiles, operands transposed; d_skip = W[0];
/// - A1 = Σ_n s(n) U(n), U(n) = Σ_i λ^i dc_i; d_residue = λ A1 + Σ_lag λ^lag W[lag];
/// - A2 = Σ_n residue λ s(n) (V(n) + U(n)) + G(n) (Z(n) + 16 λ^16 s(n)), V = Σ_i i λ^i dc_i, Z = Σ_j (15-j) λ^(15-j)
///   x_j; λ ∂loss/∂λ = A2 + Σ_lag lag residue λ^lag W[lag]. V and Z have the operands of U: tokens are weighted.
namespace causeway::cuda::modal_mma {

/// The end of the units that a part's adjoint comes from: after that of its first start.
__device__ inline int end_unit(const SegmentsView& documents, int begin, int end, int lane, bool& has_start) {
  const std::int64_t index =
      warp_upper_bound(documents.cu_seqlens, documents.count + 1, std::int64_t{begin} * unit_tokens - 1, lane);
  const std::int64_t first = index <= documents.count ? documents.cu_seqlens[index] : std::int64_t{end} * unit_tokens;
  has_start = first < std::int64_t{end} * unit_tokens;
  return has_start ? static_cast<int>(first / unit_tokens) + 1 : end;
}

/// h ∗ x by places, of a channel: the forward.
template <int Starts>
__device__ __forceinline__ void convolve(float (&y)[2][4], const TwoParts& x, const float (&s)[2][4],
                                         const float (&scale)[4], const Taps& taps, const TransposedPowers& powers,
                                         const UnitDocuments<Starts>& documents) {
  clear(y);
  TwoParts part;
  if constexpr (Starts > 0) {
    documents.tokens.keep(part.high, x.high, 0), documents.tokens.keep(part.low, x.low, 0);
    taps.multiply(y, part.high, part.low);
  } else {
    taps.multiply(y, x.high, x.low);
  }
  std::uint32_t high[4], low[4];
  state_operands(s, scale, high, low);
  powers.expand(y, high, low);
  if constexpr (Starts > 0)
    documents.for_each(1, 0, [&](unsigned ordinal) {
      documents.tokens.keep(part.high, x.high, ordinal), documents.tokens.keep(part.low, x.low, ordinal);
      float own[2][4];
      clear(own);
      taps.multiply(own, part.high, part.low);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        if (documents.places.is(n, ordinal)) y[n / 4][n % 4] = own[n / 4][n % 4];
    });
}

/// The tensors of a unit become pieces (modal_conv_mma_pieces.cuh); a loop goes over pairs of channels, each step of
/// both channels together so that their latencies overlap; then d_k and d_v become rows again.
///
/// block: 64 channels, a range of units from right to left (blockIdx.x: range * columns + column); 8 computing warps
/// and a mover
/// warp: 8 channels, in pairs
/// shared memory: Operands::Memory
/// registers: sums of lags and modes 5 a channel; of a pair dc 16, and states, powers and sums of both
template <bool Summary, class Operands>
__global__ void __launch_bounds__(block_threads, 1)
    backward_kernel(const __grid_constant__ typename Operands::Args all_args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  auto& all_memory = *reinterpret_cast<typename Operands::Memory*>(block_memory());
  const BackwardArgs& args = Operands::run_of(all_args);
  BackwardMemory& memory = all_memory.run;
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns + (Summary ? args.first_part : 0);
  // 1. Constants and the adjoints that enter.
  if (thread == 0) {
    Operands::initialize_barriers(all_memory);
    fence_barrier_initialization();
  }
  const int begin = Summary ? args.plan.part_begin(range) : args.plan.begin(range);
  int end = Summary ? args.plan.part_begin(range + 1) : args.plan.begin(range + 1);
  if constexpr (Summary) {
    bool has_start;
    end = end_unit(args.documents, begin, end, lane, has_start);
    if (column == 0 && thread == 0) args.part_starts[range] = has_start;
  }
  copy_constants(memory.constants, args.constants + column * block_channels);
  for (int i = thread; i < block_channels * mode_count; i += block_threads) {
    const int c = i / mode_count, p = i % mode_count;
    memory.carry[c][p] = Summary ? 0.0f : entering_adjoint(args, range, column * block_channels + c, mode_at(p));
  }
  Operands::set_up(all_args, all_memory, column, end - 1, warp, lane);
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    Operands::template move<Summary>(all_args, all_memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const LaneAddress address(warp, lane);
  const int first_channel = warp * warp_channels;
  Operands operands(all_args, all_memory, column, range, warp, address);
  std::uint32_t weights[2];  // 15 - slot
#pragma unroll
  for (int h = 0; h < 2; ++h)
    weights[h] =
        pack_bf16(static_cast<float>(15 - 2 * (lane % 4) - 8 * h), static_cast<float>(14 - 2 * (lane % 4) - 8 * h));
  // Rows of channels beyond D are there too, so that nothing depends on D in the loop.
  float* const sums_at =
      args.sums +
      (std::int64_t{range * args.plan.columns + column} * block_channels + first_channel) * sums_of_channel + 4 * lane;
  // The states that enter a unit, of channel lane / 4 of the warp.
  const auto read_states = [&](int unit) {
    const std::int64_t channel = column * block_channels + first_channel + lane / 4;
    uint4 s = {0, 0, 0, 0};
    if (!Summary && channel < args.filter.channels)
      s = *reinterpret_cast<const uint4*>(&args.states(unit, channel * mode_count + lane % 4 * 4));
    return s;
  };
#pragma unroll 1
  for (int unit = end - 1; unit >= begin; --unit) {
    const int i = end - 1 - unit;
    const uint4 states = read_states(unit);
    operands.begin_unit(unit, i, begin);
    operands.template prepare<Summary>();
    const UnitStarts& starts = memory.starts[i % 2];
    const unsigned tiles = starts.tiles, most = starts.most;
    const TileReach back(starts.reversed, 31 - lane), forth(tiles, lane);
    // 2. Pairs of channels.
    const auto compute = [&]<int Starts>() {
      constexpr bool Masked = Starts > 0;
      const UnitDocuments<Starts> documents(starts, lane);
      const auto &of_dc = documents.places, &of_x = documents.tokens;
#pragma unroll 1
      for (int pair = 0; pair < 4; ++pair) {
        TwoParts dc[2];
        operands.load_dc(dc, pair, documents);
        if (pair == 3) operands.template release_dc<Summary>();
        const ChannelConstants* const constants = &memory.constants[first_channel + 2 * pair];
        Powers powers[2];
        float U[2][2][4], V[2][2][4], sums[2][2][4], decay[2][3][4], carry[2][4], G[2][2][4], after[2][4], scale[2][4];
        TwoParts kept[2];
        // 2a.
#pragma unroll
        for (int c = 0; c < 2; ++c) powers[c].load(constants[c], lane);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          kept[c] = dc[c];
          if constexpr (Masked) of_dc.keep(kept[c].high, dc[c].high, 0), of_dc.keep(kept[c].low, dc[c].low, 0);
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          powers[c].sum(U[c], kept[c].high, kept[c].low);
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
#pragma unroll
          for (int n = 0; n < 3; ++n) load_4(decay[c][n], &constants[c].decay[n][lane % 4 * 4]);
          load_4(scale[c], &constants[c].out[lane % 4 * 4]);
          load_4(carry[c], &memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]);
#pragma unroll
          for (int n = 0; n < 8; ++n) sums[c][n / 4][n % 4] = scale[c][n / 4 * 2 + n % 2] * U[c][n / 4][n % 4];
        }
        if constexpr (!Summary) {
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const TwoParts part = weighted(kept[c], weights);
            powers[c].sum(V[c], part.high, part.low);
          }
        }
        scan_pair<true>(sums, decay, carry, back, lane, G, after);
        __syncwarp();
#pragma unroll
        for (int c = 0; c < 2; ++c)
          store_shared_16_if(lane / 4 == 0, shared_address(&memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]),
                             pack_4(after[c]));
        if constexpr (!Summary) {
          // 2b.
          TwoParts x[2], part[2];
          if (pair == 0) operands.prepare_kv();
          operands.multiply_kv(x, pair, documents);
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            float lag[4] = {0, 0, 0, 0};
            if constexpr (Masked) {
              documents.for_each(0, 0, [&](unsigned ordinal) {
                of_dc.keep(kept[c].high, dc[c].high, ordinal), of_dc.keep(kept[c].low, dc[c].low, ordinal);
                // Lags to later documents are below zero and do not count.
                if (ordinal == 0)
                  part[c] = x[c];
                else
                  of_x.keep(part[c].high, x[c].high, ordinal), of_x.keep(part[c].low, x[c].low, ordinal);
                add_lags(lag, kept[c], part[c]);
              });
              of_x.keep_last(part[c].high, x[c].high), of_x.keep_last(part[c].low, x[c].low);
            } else {
              add_lags(lag, dc[c], x[c]);
              part[c] = x[c];
            }
            add_to_4(sums_at + (2 * pair + c) * sums_of_channel, lag[0], lag[1], lag[2], lag[3]);
          }
          float entering[2][4], s[2][2][4], values[2][8];
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const int from = 4 * (2 * pair + c) + lane % 4;
            entering[c][0] = __uint_as_float(__shfl_sync(~0u, states.x, from));
            entering[c][1] = __uint_as_float(__shfl_sync(~0u, states.y, from));
            entering[c][2] = __uint_as_float(__shfl_sync(~0u, states.z, from));
            entering[c][3] = __uint_as_float(__shfl_sync(~0u, states.w, from));
            powers[c].sum(sums[c], part[c].high, part[c].low);
          }
          scan_pair<false>(sums, decay, entering, forth, lane, s, after);
#pragma unroll
          for (int c = 0; c < 2; ++c) {
#pragma unroll
            for (int p = 0; p < 4; ++p) {
              values[c][p] = values[c][4 + p] = 0;
#pragma unroll
              for (int th = 0; th < 2; ++th) {
                const int h = p / 2, e = 2 * th + p % 2;
                values[c][p] += s[c][th][p] * U[c][h][e];
                values[c][4 + p] += scale[c][p] * s[c][th][p] * (V[c][h][e] + U[c][h][e]);
                if (!Masked || (tiles >> (lane / 4 * 2 + th) & 1) == 0)
                  values[c][4 + p] += G[c][th][p] * (16 * decay[c][0][p] * s[c][th][p]);
              }
            }
            part[c] = weighted(part[c], weights);
            powers[c].sum(sums[c], part[c].high, part[c].low);
#pragma unroll
            for (int n = 0; n < 8; ++n)
              values[c][4 + n / 4 * 2 + n % 2] += G[c][n % 4 / 2][n / 4 * 2 + n % 2] * sums[c][n / 4][n % 4];
          }
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const float mode = sum_over_tiles(values[c], lane);
            add_to(sums_at + (2 * pair + c) * sums_of_channel + 128 - 3 * lane, mode);
          }
          // 2c.
          float d_x[2][2][4], y[2][2][4];
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            Taps taps;
            taps.load(constants[c], lane);
            clear(d_x[c]);
            if constexpr (Masked) {
              of_dc.keep_last(kept[c].high, dc[c].high), of_dc.keep_last(kept[c].low, dc[c].low);
              taps.multiply(d_x[c], kept[c].high, kept[c].low);
            } else {
              taps.multiply(d_x[c], dc[c].high, dc[c].low);
            }
            const float one[4] = {1, 1, 1, 1};
            std::uint32_t high[4], low[4];
            state_operands(G[c], one, high, low);
            const TransposedPowers transposed(powers[c]);
            transposed.expand(d_x[c], high, low);
            if constexpr (Operands::makes_q) {
              load_4(scale[c], &constants[c].out[lane % 4 * 4]);
              convolve(y[c], x[c], s[c], scale[c], taps, transposed, documents);
            }
            if constexpr (Masked) {
              documents.for_each(0, 1, [&](unsigned ordinal) {
                of_dc.keep(kept[c].high, dc[c].high, ordinal), of_dc.keep(kept[c].low, dc[c].low, ordinal);
                float own[2][4];
                clear(own);
                taps.multiply(own, kept[c].high, kept[c].low);
#pragma unroll
                for (int n = 0; n < 8; ++n)
                  if (of_x.is(n, ordinal) && ordinal != of_x.last[n % 4 / 2]) d_x[c][n / 4][n % 4] = own[n / 4][n % 4];
              });
            }
          }
          if constexpr (Operands::makes_q) operands.replace_q(y, pair, documents);
          operands.replace_kv(d_x, pair, documents);
        }
      }
    };
    if (most == 0)
      compute.template operator()<0>();
    else if (most == 1)
      compute.template operator()<1>();
    else
      compute.template operator()<2>();
    if constexpr (!Summary) operands.finish_unit();
    __syncwarp();
  }
  if constexpr (!Summary) operands.finish_range();
  // 4. The adjoint before the part or the run; sums of the range.
  const std::int64_t own_channel = column * block_channels + first_channel + lane / 4;
  if (own_channel < args.filter.channels && (Summary || (range == 0 && args.adjoint_out.data != nullptr)))
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int m = mode_at(lane % 4 * 4 + e);
      const float G = memory.carry[first_channel + lane / 4][lane % 4 * 4 + e];
      if constexpr (Summary)
        args.parts[(range * args.filter.channels + own_channel) * mode_count + m] = G;
      else
        args.adjoint_out(own_channel, m) = G;
    }
#endif
}

}  // namespace causeway::cuda::modal_mma
