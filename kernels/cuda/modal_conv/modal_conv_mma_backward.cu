#include "kernels/cuda/modal_conv/modal_conv_mma_gradients.cuh"

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
namespace {

struct BackwardMemory {
  unsigned char qd[2][tensor_bytes], kv[2][tensor_bytes];
  ChannelConstants constants[block_channels];
  float carry[block_channels][mode_count];  ///< in order of places
  UnitStarts starts[2];
  SharedBarrier full_qd, full_kv;
};
static_assert(sizeof(BackwardMemory) <= 232448);

/// The mover. q and d_y are empty before the last channels are computed (barrier 1); d_k and d_v replace k and v
/// (barrier 2).
template <bool Summary>
__device__ inline void backward_mover(const BackwardArgs& args, BackwardMemory& memory, int column, int begin, int end,
                                      int lane) {
  StartReader starts(args.documents);
  const auto fill_qd = [&](int unit) {
    if (unit < begin) return;
    if (lane == 0) {
      arrive_expecting(memory.full_qd, 2 * tensor_bytes);
      load_box(memory.qd[0], args.q, column * block_channels, unit * unit_tokens, memory.full_qd);
      load_box(memory.qd[1], args.d_y, column * block_channels, unit * unit_tokens, memory.full_qd);
    }
    starts.seek(std::int64_t{unit} * unit_tokens, lane);
    read_starts(starts, std::int64_t{unit} * unit_tokens, memory.starts[(end - 1 - unit) % 2], lane);
    memory.full_qd.arrive_as_warp();
  };
  const auto fill_kv = [&](int unit) {
    if (Summary || unit < begin || lane != 0) return;
    arrive_expecting(memory.full_kv, 2 * tensor_bytes);
    load_box(memory.kv[0], args.k, column * block_channels, unit * unit_tokens, memory.full_kv);
    load_box(memory.kv[1], args.v, column * block_channels, unit * unit_tokens, memory.full_kv);
  };
  fill_qd(end - 1);
  fill_kv(end - 1);
#pragma unroll 1
  for (int unit = end - 1; unit >= begin; --unit) {
    wait_at_barrier<meeting_threads>(1);
    fill_qd(unit - 1);
    if constexpr (!Summary) {
      wait_at_barrier<meeting_threads>(2);
      if (lane == 0) {
        store_box(args.d_k, memory.kv[0], column * block_channels, unit * unit_tokens);
        store_box(args.d_v, memory.kv[1], column * block_channels, unit * unit_tokens);
        commit_box_stores();
        wait_for_box_reads<0>();
      }
      __syncwarp();
      fill_kv(unit - 1);
    }
  }
  if (!Summary && lane == 0) wait_for_box_stores();
}

/// The end of the units that a part's adjoint comes from: after that of its first start.
__device__ inline int end_unit(const SegmentsView& documents, int begin, int end, int lane, bool& has_start) {
  const std::int64_t index =
      warp_upper_bound(documents.cu_seqlens, documents.count + 1, std::int64_t{begin} * unit_tokens - 1, lane);
  const std::int64_t first = index <= documents.count ? documents.cu_seqlens[index] : std::int64_t{end} * unit_tokens;
  has_start = first < std::int64_t{end} * unit_tokens;
  return has_start ? static_cast<int>(first / unit_tokens) + 1 : end;
}
/// block: 64 channels, a range of units from right to left (blockIdx.x: range * columns + column); 8 computing warps
/// and a mover warp: 8 channels, in two halves of dc, in pairs shared memory: BackwardMemory registers: k, v and dc of
/// 4 channels 64, sums of lags and modes 5 a channel
template <bool Summary>
__global__ void __launch_bounds__(block_threads, 1) backward_kernel(const __grid_constant__ BackwardArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  BackwardMemory& memory = *reinterpret_cast<BackwardMemory*>(block_memory());
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns + (Summary ? args.first_part : 0);
  // 1. Constants and the adjoints that enter.
  if (thread == 0) {
    memory.full_qd.initialize(2);
    memory.full_kv.initialize(1);
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
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    backward_mover<Summary>(args, memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const LaneAddress address(warp, lane);
  const unsigned qd_at = shared_address(memory.qd[0]), kv_at = shared_address(memory.kv[0]);
  const int first_channel = warp * warp_channels;
  std::uint32_t weights[2];  // 15 - slot
#pragma unroll
  for (int h = 0; h < 2; ++h)
    weights[h] =
        pack_bf16(static_cast<float>(15 - 2 * (lane % 4) - 8 * h), static_cast<float>(14 - 2 * (lane % 4) - 8 * h));
  float lags[warp_channels][4], modes[warp_channels];
#pragma unroll
  for (int c = 0; c < warp_channels; ++c) {
    modes[c] = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) lags[c][e] = 0;
  }
  // The states that enter a unit, of channel lane / 4 of the warp, one unit ahead.
  const auto read_states = [&](int unit) {
    const std::int64_t channel = column * block_channels + first_channel + lane / 4;
    uint4 s = {0, 0, 0, 0};
    if (!Summary && unit >= begin && channel < args.filter.channels)
      s = *reinterpret_cast<const uint4*>(&args.states(unit, channel * mode_count + lane % 4 * 4));
    return s;
  };
  uint4 states_next = read_states(end - 1);
#pragma unroll 1
  for (int unit = end - 1; unit >= begin; --unit) {
    const int i = end - 1 - unit;
    const uint4 states = states_next;
    states_next = read_states(unit - 1);
    memory.full_qd.wait(static_cast<unsigned>(i) & 1);
    const UnitStarts& starts = memory.starts[i % 2];
    const unsigned tiles = starts.tiles, most = starts.most;
    const TileReach back(starts.reversed, 31 - lane), forth(tiles, lane);
    if constexpr (!Summary) memory.full_kv.wait(static_cast<unsigned>(i) & 1);
      // 2. Halves of the channels: dc, k and v of 4 channels; then pairs of channels.
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      TwoParts dc[4];
      std::uint32_t k[4][2][2], v[4][2][2];  // [th + 2 half of tokens][e][pair of channels]
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const unsigned offset =
            static_cast<unsigned>(n % 2 * 2048) - static_cast<unsigned>(n / 2 * 1024) + static_cast<unsigned>(half * 8);
        uint2 Q[2], Y[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          Q[e] = load_shared_8(qd_at + address.place[e] + offset);
          Y[e] = load_shared_8(qd_at + tensor_bytes + address.place[e] + offset);
        }
        const auto put = [&](int p, std::uint32_t q0, std::uint32_t y0, std::uint32_t q1, std::uint32_t y1) {
          std::uint32_t h0, l0, h1, l1;
          exact_product(q0, y0, h0, l0);
          exact_product(q1, y1, h1, l1);
          dc[2 * p].high[n] = __byte_perm(h0, h1, 0x5410);
          dc[2 * p + 1].high[n] = __byte_perm(h0, h1, 0x7632);
          dc[2 * p].low[n] = __byte_perm(l0, l1, 0x5410);
          dc[2 * p + 1].low[n] = __byte_perm(l0, l1, 0x7632);
        };
        put(0, Q[0].x, Y[0].x, Q[1].x, Y[1].x);
        put(1, Q[0].y, Y[0].y, Q[1].y, Y[1].y);
      }
      if (half == 1) {
        __syncwarp();
        arrive_at_barrier<meeting_threads>(1);
      }
      if constexpr (!Summary) {
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          const unsigned at =
              kv_at + address.x[n % 2] + static_cast<unsigned>(n / 2 % 2 * 2048 + n / 4 * 1024 + half * 8);
          const uint2 K = load_shared_8(at), V = load_shared_8(at + tensor_bytes);
          k[n / 2][n % 2][0] = K.x, k[n / 2][n % 2][1] = K.y;
          v[n / 2][n % 2][0] = V.x, v[n / 2][n % 2][1] = V.y;
        }
      }
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const int pair = 2 * half + step;
        const auto compute = [&]<bool Masked>() {
          LaneDocuments of_dc, of_x;
          if constexpr (Masked) {
            of_dc = LaneDocuments::read<true>(starts, lane);
            of_x = LaneDocuments::read<false>(starts, lane);
          }
          float d_x[2][2][4];  // [channel][half of tokens][2 th + e]
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const int channel = first_channel + 2 * pair + c;
            const TwoParts& own_dc = dc[2 * step + c];
            const ChannelConstants& constants = memory.constants[channel];
            // 2a. The adjoint: what the tokens of each tile's first document add, then the scan.
            Powers powers;
            powers.load(constants, lane);
            TwoParts kept = own_dc;
            if constexpr (Masked) of_dc.keep(kept.high, own_dc.high, 0), of_dc.keep(kept.low, own_dc.low, 0);
            float U[2][4], sums[2][4], decay[3][4], carry[4], G[2][4], after[4], scale[4];
            powers.sum(U, kept.high, kept.low);
#pragma unroll
            for (int n = 0; n < 3; ++n) load_4(decay[n], &constants.decay[n][lane % 4 * 4]);
            load_4(scale, &constants.out[lane % 4 * 4]);
            load_4(carry, &memory.carry[channel][lane % 4 * 4]);
#pragma unroll
            for (int n = 0; n < 8; ++n) sums[n / 4][n % 4] = scale[n / 4 * 2 + n % 2] * U[n / 4][n % 4];
            scan_tiles<true>(sums, decay, carry, back, lane, G, after);
            __syncwarp();
            if (lane / 4 == 0) store_shared_16(shared_address(&memory.carry[channel][lane % 4 * 4]), pack_4(after));
            // 2b. Parameters.
            if constexpr (!Summary) {
              float V[2][4], values[8];
              TwoParts x, part;
              part = weighted(kept, weights);
              powers.sum(V, part.high, part.low);
#pragma unroll
              for (int n = 0; n < 4; ++n) {
                std::uint32_t h0, l0, h1, l1;
                exact_product(k[n][0][step], v[n][0][step], h0, l0);
                exact_product(k[n][1][step], v[n][1][step], h1, l1);
                x.high[n] = __byte_perm(h0, h1, c == 0 ? 0x5410 : 0x7632);
                x.low[n] = __byte_perm(l0, l1, c == 0 ? 0x5410 : 0x7632);
              }
              float(&lag)[4] = lags[2 * step + c];
              if constexpr (Masked) {
#pragma unroll 1
                for (unsigned ordinal = 0; ordinal <= most; ++ordinal) {
                  of_dc.keep(kept.high, own_dc.high, ordinal), of_dc.keep(kept.low, own_dc.low, ordinal);
                  of_x.keep(part.high, x.high, ordinal), of_x.keep(part.low, x.low, ordinal);
                  add_lags(lag, kept, part);
                }
                of_x.keep_last(part.high, x.high), of_x.keep_last(part.low, x.low);
              } else {
                add_lags(lag, own_dc, x);
                part = x;
              }
              float entering[4], s[2][4];
              const int from = 4 * (2 * pair + c) + lane % 4;
              entering[0] = __uint_as_float(__shfl_sync(~0u, states.x, from));
              entering[1] = __uint_as_float(__shfl_sync(~0u, states.y, from));
              entering[2] = __uint_as_float(__shfl_sync(~0u, states.z, from));
              entering[3] = __uint_as_float(__shfl_sync(~0u, states.w, from));
              powers.sum(sums, part.high, part.low);
              scan_tiles<false>(sums, decay, entering, forth, lane, s, after);
#pragma unroll
              for (int p = 0; p < 4; ++p) {
                values[p] = values[4 + p] = 0;
#pragma unroll
                for (int th = 0; th < 2; ++th) {
                  const int h = p / 2, e = 2 * th + p % 2;
                  values[p] += s[th][p] * U[h][e];
                  values[4 + p] += scale[p] * s[th][p] * (V[h][e] + U[h][e]);
                  if (!Masked || (tiles >> (lane / 4 * 2 + th) & 1) == 0)
                    values[4 + p] += G[th][p] * (16 * decay[0][p] * s[th][p]);
                }
              }
              part = weighted(part, weights);
              powers.sum(sums, part.high, part.low);
#pragma unroll
              for (int n = 0; n < 8; ++n)
                values[4 + n / 4 * 2 + n % 2] += G[n % 4 / 2][n / 4 * 2 + n % 2] * sums[n / 4][n % 4];
              modes[2 * step + c] += sum_over_tiles(values, lane);
            }
            // 2c. d_x of the document that each tile ends with.
            if constexpr (!Summary) {
              Taps taps;
              taps.load(constants, lane);
              clear(d_x[c]);
              if constexpr (Masked) {
                of_dc.keep_last(kept.high, own_dc.high), of_dc.keep_last(kept.low, own_dc.low);
                taps.multiply(d_x[c], kept.high, kept.low);
              } else {
                taps.multiply(d_x[c], own_dc.high, own_dc.low);
              }
              const float one[4] = {1, 1, 1, 1};
              std::uint32_t high[4], low[4];
              state_operands(G, one, high, low);
              powers.expand(d_x[c], high, low);
              if constexpr (Masked) {
#pragma unroll 1
                for (unsigned ordinal = 0; ordinal < most; ++ordinal) {
                  of_dc.keep(kept.high, own_dc.high, ordinal), of_dc.keep(kept.low, own_dc.low, ordinal);
                  float own[2][4];
                  clear(own);
                  taps.multiply(own, kept.high, kept.low);
#pragma unroll
                  for (int n = 0; n < 8; ++n)
                    if ((of_x.of[n % 4 / 2] >> (16 * (n / 4) + 8 * (n % 2)) & 0xff) == ordinal &&
                        ordinal != of_x.last[n % 4 / 2])
                      d_x[c][n / 4][n % 4] = own[n / 4][n % 4];
                }
              }
            }
          }
          // 2d. d_k and d_v replace k and v.
          if constexpr (!Summary) {
#pragma unroll
            for (int n = 0; n < 8; ++n) {
              const int h = n / 4, at = n / 2 % 2 * 2 + n % 2;
              auto &words_k = k[n / 2][n % 2], &words_v = v[n / 2][n % 2];
              const float d0 = d_x[0][h][at], d1 = d_x[1][h][at];
              const std::uint32_t K = words_k[step], V = words_v[step];
              words_k[step] = pack_bf16(d0 * low_bf16(V), d1 * high_bf16(V));
              words_v[step] = pack_bf16(d0 * low_bf16(K), d1 * high_bf16(K));
            }
          }
        };
        if (most == 0)
          compute.template operator()<false>();
        else
          compute.template operator()<true>();
      }
      if constexpr (!Summary) {  // the sums of this half and of the other one change places
#pragma unroll
        for (int c = 0; c < warp_channels / 2; ++c) {
          const float mode = modes[c];
          modes[c] = modes[c + warp_channels / 2];
          modes[c + warp_channels / 2] = mode;
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float lag = lags[c][e];
            lags[c][e] = lags[c + warp_channels / 2][e];
            lags[c + warp_channels / 2][e] = lag;
          }
        }
      }
      // 3. d_k and d_v to shared memory.
      if constexpr (!Summary) {
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          const unsigned at =
              kv_at + address.x[n % 2] + static_cast<unsigned>(n / 2 % 2 * 2048 + n / 4 * 1024 + half * 8);
          store_shared_8(at, {k[n / 2][n % 2][0], k[n / 2][n % 2][1]});
          store_shared_8(at + tensor_bytes, {v[n / 2][n % 2][0], v[n / 2][n % 2][1]});
        }
      }
    }
    if constexpr (!Summary) {
      fence_bulk_copies();
      __syncwarp();
      arrive_at_barrier<meeting_threads>(2);
    }
    __syncwarp();
  }
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
  if constexpr (!Summary) {
    const int g = lane / 4, place = lane % 4 * 4 + g % 4;
#pragma unroll
    for (int c = 0; c < warp_channels; ++c) {
      const std::int64_t channel = column * block_channels + first_channel + c;
      if (channel >= args.filter.channels) continue;
      const std::int64_t row = range * args.filter.channels + channel;
      args.mode_parts[(row * 2 + g / 4) * mode_count + mode_at(place)] = modes[c];
#pragma unroll
      for (int e = 0; e < 4; ++e) args.lag_parts[(row * 4 + e) * 32 + lane] = lags[c][e];
    }
  }
#endif
}

}  // namespace

void launch_backward(const Stream& stream, const BackwardArgs& args) {
  launch_kernel<backward_kernel<false>>(stream, args.plan.columns * args.plan.ranges, block_threads,
                                        sizeof(BackwardMemory), args);
}

void launch_backward_parts(const Stream& stream, const BackwardArgs& args) {
  launch_kernel<backward_kernel<true>>(stream, args.plan.columns * (args.plan.parts() - args.first_part), block_threads,
                                       sizeof(BackwardMemory), args);
}

}  // namespace causeway::cuda::modal_mma
