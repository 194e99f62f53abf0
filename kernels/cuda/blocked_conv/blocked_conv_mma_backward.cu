#include "kernels/cuda/blocked_conv/blocked_conv_tile.cuh"

// One scan from right to left computes d_k, d_v, d_halo, d_taps and d_skip; d_q is a forward convolution gated by d_y.
//
// d_taps[j] = Σ_t dc[t] x[t-j] with x = k⊙v, dc = q⊙d_y: the products of tiles dc [tokens, channels] and xᵀ add up to
// 16×16 sums for each Toeplitz block, whose diagonals belong to the lags. They stay in registers for a whole strip. The
// tiles of dc are kept twice: as [channels, tokens] in registers for d_x = Σ_b dc_{n+b} H_bᵀ, and as [tokens, channels]
// in shared memory for d_taps.
//
// Lower bound: the bytes (blocked_conv.cuh). There are three more accesses per element than it counts, because d_q is
// computed separately. At 128 taps there are 54 products of 4,096 flops for 256 elements: 0.39 ms for L 65536, D 4096.
namespace causeway::cuda {
namespace {

/// Arguments of the backward kernel.
struct MmaBackward {
  Rows<const bf16> q, k, v, d_y, halo;
  Rows<bf16> d_k, d_v, d_halo;
  ParameterRows<bf16> taps, skip;
  SegmentsView segments;
  std::int64_t group_tiles, length;
  StripPlan plan;
  float* lags;   ///< partial sums of d_taps [strips, length, channel tiles]
  float* skips;  ///< partial sums of d_skip [strips, channels], or null
};

enum { q_tile, d_y_tile, v_tile, k_tile, tensors };  // d_k replaces v, d_v replaces k
constexpr int stages = 6, across = 4;
using Tile = BlockTile<across>;

/// The shared memory of a block.
template <int Blocks>
struct BackwardMemory {
  unsigned char fetched[stages][tensors][Tile::bytes];  ///< the ring of prefetched tiles
  unsigned char past[Blocks][Tile::bytes];              ///< the last tiles of dc, each part used by one warp
};

__device__ void clear_row(unsigned at) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
}

/// sum += dc xᵀ. The registers of a tile as operand A are those of its transpose as operand B.
__device__ void multiply_transposed(float (&sum)[2][4], const std::uint32_t (&dc)[4], const std::uint32_t (&x)[4]) {
  mma_16x8x16(sum[0], dc, x[0], x[2]);
  mma_16x8x16(sum[1], dc, x[1], x[3]);
}

/// Writes the partial sums of d_taps: the sums of each block along its diagonals i - j, which belong to the lags
/// 16 b + i - j. Blocks are added one after the other, each diagonal by one lane.
template <int Blocks>
__device__ void write_lags(const MmaBackward& args, const float (&sums)[Blocks][2][4], void* memory, std::int64_t strip,
                           std::int64_t channel_tile, int lane) {
  constexpr int margin = conv_tile - 1;  // lags before 0
  static_assert(Tile::bytes >= (conv_tile * (conv_tile + 1) + conv_tile * Blocks + margin) * sizeof(float));
  auto* const block = static_cast<float(*)[conv_tile + 1]>(memory);
  float* const of_lag = block[conv_tile] + margin;
  for (int i = lane; i < conv_tile * Blocks + margin; i += 32) of_lag[i - margin] = 0;
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) block[lane / 4 + e / 2 * 8][8 * n + 2 * (lane % 4) + e % 2] = sums[b][n][e];
    __syncwarp();
    const int diagonal = lane - margin;
    if (diagonal > margin) continue;
    float sum = 0;
    for (int j = max(0, -diagonal); j < min(conv_tile, conv_tile - diagonal); ++j) sum += block[j + diagonal][j];
    of_lag[conv_tile * b + diagonal] += sum;
  }
  __syncwarp();
  for (std::int64_t lag = lane; lag < args.length; lag += 32)
    args.lags[(strip * args.length + lag) * args.plan.channel_tiles + channel_tile] = of_lag[lag];
}

/// block: a strip of tokens by the channels of 4 warps
/// warp: 16 channels of one group, tile after tile from the right end of the strip to its left end
/// thread: copies 16 bytes of each tile to shared memory and of each result to memory
/// shared memory: BackwardMemory
/// registers: the filter's Toeplitz blocks, the last `Blocks` tiles of dc, the sums of a tile, those of d_taps and
/// d_skip
/// More than 80 lines because all phases share the registers and the functions that address the stages.
template <int Blocks>
__global__ void __launch_bounds__(32 * across, Blocks > 5   ? 2
                                               : Blocks > 3 ? 3
                                                            : 4) mma_backward(const MmaBackward args) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<BackwardMemory<Blocks>*>(memory);
  const TileThread<across> at(args.plan);
  const int lane = at.lane, row = at.row;
  // 1. The range of tiles: those right of the strip, which only fill the registers, those of the strip, and for the
  // first strip also those of the halo.
  const std::int64_t low = at.strip * args.plan.strip_tiles, high = min(low + args.plan.strip_tiles, args.plan.tiles),
                     reach = conv_blocks(args.length) - 1;
  const std::int64_t first = min(high - 1 + reach, args.plan.tiles - 1);
  const bool reads_halo = low == 0 && (args.halo.data != nullptr || args.d_halo.data != nullptr);
  const int warm_up = static_cast<int>(first - (high - 1)),
            count = static_cast<int>(first - (reads_halo ? -reach : low)) + 1;

  // 2. The filter and the starts of documents.
  const ToeplitzFilter<Blocks> filter(args.taps, at.exists ? at.tile / args.group_tiles : 0, args.length, lane);
  const bool has_skip = args.skip.present() && at.exists;
  const float skip[2] = {has_skip ? args.skip(at.channel) : 0.0f, has_skip ? args.skip(at.channel + 8) : 0.0f};
  TileStarts<ScanDirection::right_to_left> tile_starts(args.segments, first, lane);
  const std::int64_t start = args.segments.cu_seqlens[0], tokens = args.segments.tokens;

  const unsigned base = shared_address(shared.fetched), past_base = shared_address(shared.past),
                 reversed_row = Tile::channels_by_tokens(ScanDirection::right_to_left, at.warp, lane),
                 matrix_row = Tile::tokens_by_channels(at.warp, lane);
  const auto slot = [&](int i, int tensor) {
    return base + static_cast<unsigned>((i % stages * tensors + tensor) * Tile::bytes);
  };
  const unsigned own_row =
      Tile::offset(lane / 2, 2 * at.warp + lane % 2);  // the 16 bytes of its warp's tile that the lane clears
  const auto past = [&](int c) { return past_base + static_cast<unsigned>(c * Tile::bytes); };
  // Copies tile i of the scan to its stage in the background.
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = (first - i) * conv_tile + row;
      if (t < 0) {
        const bool exists = args.halo.data != nullptr && t > -args.length && t >= start && at.copies;
        copy_16_bytes_async(slot(i, v_tile) + at.copy_offset,
                            exists ? &args.halo(args.length - 1 + t, at.column) : args.v.data, exists);
      } else {
        const bool exists = t < tokens && at.copies;
        const std::int64_t from = exists ? t : 0, column = exists ? at.column : 0;
        if (args.q.data != nullptr)
          copy_16_bytes_async(slot(i, q_tile) + at.copy_offset, &args.q(from, column), exists);
        copy_16_bytes_async(slot(i, d_y_tile) + at.copy_offset, &args.d_y(from, column), exists);
        if (i >= warm_up) {
          copy_16_bytes_async(slot(i, v_tile) + at.copy_offset, &args.v(from, column), exists);
          if (args.k.data != nullptr)
            copy_16_bytes_async(slot(i, k_tile) + at.copy_offset, &args.k(from, column), exists);
        }
      }
    }
    commit_async_copies();
  };
  // Writes the results of tile i.
  const auto write = [&](int i) {
    const std::int64_t t = (first - i) * conv_tile + row;
    if (i < warm_up || t >= tokens || !at.copies) return;
    if (t < 0) {
      if (args.d_halo.data != nullptr && t > -args.length)
        write_row(&args.d_halo(args.length - 1 + t, at.column), slot(i, k_tile) + at.copy_offset);
    } else {
      if (args.k.data != nullptr) write_row(&args.d_k(t, at.column), slot(i, v_tile) + at.copy_offset);
      write_row(&args.d_v(t, at.column), slot(i, k_tile) + at.copy_offset);
    }
  };
  // 3. The scan; `ring` is unrolled so that it stays in registers.
#pragma unroll 1
  for (int i = 0; i < stages - 2; ++i) fetch(i);
#pragma unroll
  for (int c = 0; c < Blocks; ++c) clear_row(past(c) + at.copy_offset);

  std::uint32_t ring[Blocks][4] = {};
  float lag_sums[Blocks][2][4] = {}, skip_sums[2] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int c = 0; c < Blocks; ++c) {
      if (i >= count) break;
      wait_for_async_copies<stages - 3>();
      __syncthreads();
      write(i - 1);
      fetch(i + stages - 2);  // to the stage whose results have just been written

      // 3a. dc = q⊙d_y.
      const bool in_run = first - i >= 0;
      std::uint32_t dc[4] = {}, masked[4];
      if (in_run) {
        ldmatrix_x4<true>(dc, slot(i, d_y_tile) + reversed_row);
        if (args.q.data != nullptr) {
          ldmatrix_x4<true>(masked, slot(i, q_tile) + reversed_row);
          multiply_pairs(dc, masked);
        }
      }
      // 3b. The products. With a start in the tile, `masked` holds the tokens of one document at a time.
      const unsigned starts = tile_starts.of_tile(first - i);
      const int before = tokens_before(starts);
#pragma unroll
      for (int j = 0; j < 4; ++j) masked[j] = dc[j];
      stmatrix_x4_transposed(past(c) + reversed_row, dc);
      if (starts != 0) keep_columns(masked, dc, 0, before, lane);
      float sum[2][4] = {};
      if (i >= warm_up) {
        filter.multiply(sum, masked, 0);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);

        // 3c. The sums of d_taps.
        std::uint32_t x[4], x_before[4], dc_rows[4], dc_before[4];
        ldmatrix_x4<false>(x, slot(i, v_tile) + matrix_row);
        if (args.k.data != nullptr && in_run) {
          ldmatrix_x4<false>(dc_rows, slot(i, k_tile) + matrix_row);
          multiply_pairs(x, dc_rows);
        }
        __syncwarp();  // dc has been stored
        ldmatrix_x4<false>(dc_rows, past(c) + matrix_row);
#pragma unroll
        for (int j = 0; j < 4; ++j) x_before[j] = x[j], dc_before[j] = dc_rows[j];
        if (starts != 0) {
          keep_rows(x_before, x, conv_tile - before, conv_tile, lane);
          keep_rows(dc_before, dc_rows, conv_tile - before, conv_tile, lane);
        }
        multiply_transposed(lag_sums[0], dc_before, x_before);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) {
          ldmatrix_x4<false>(dc_before, past((c + Blocks - b) % Blocks) + matrix_row);
          multiply_transposed(lag_sums[b], dc_before, x_before);
        }
        for_each_start(starts, [&](int from, int to) {
          keep_rows(x_before, x, conv_tile - to, conv_tile - from, lane);
          keep_rows(dc_before, dc_rows, conv_tile - to, conv_tile - from, lane);
          multiply_transposed(lag_sums[0], dc_before, x_before);
        });
      }
      if (starts != 0) {
        for_each_start(starts, [&](int from, int to) {
          keep_columns(masked, dc, from, to, lane);
          filter.replace(sum, masked, from, to, lane);
        });
        __syncwarp();  // all lanes have read the tiles that are cleared
#pragma unroll
        for (int b = 0; b < Blocks; ++b) {
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
          if (b != c) clear_row(past(b) + own_row);
        }
        stmatrix_x4_transposed(past(c) + reversed_row, masked);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = masked[j];  // the tokens of the last document

      // 3d. skip and the gates.
      if (i >= warm_up) {
        if (args.skip.present()) add_skip(sum, skip, dc);
        std::uint32_t v[4], k[4] = {}, d_k[4];
        if (in_run) {
          ldmatrix_x4<true>(v, slot(i, v_tile) + reversed_row);
          if (args.k.data != nullptr) ldmatrix_x4<true>(k, slot(i, k_tile) + reversed_row);
          round_gated(d_k, sum, true, v);
          if (args.skips != nullptr) {
            if (args.k.data != nullptr) multiply_pairs(v, k);
#pragma unroll
            for (int j = 0; j < 4; ++j)
              skip_sums[j % 2] += low_bf16(dc[j]) * low_bf16(v[j]) + high_bf16(dc[j]) * high_bf16(v[j]);
          }
        }
        round_gated(dc, sum, in_run && args.k.data != nullptr, k);
        __syncwarp();  // all lanes have read k and v
        if (in_run && args.k.data != nullptr) stmatrix_x4_transposed(slot(i, v_tile) + reversed_row, d_k);
        stmatrix_x4_transposed(slot(i, k_tile) + reversed_row, dc);
      }
      ++i;
    }
  }

  // 4. The last results and the partial sums of d_taps and d_skip.
  __syncthreads();
  write(count - 1);
  __syncthreads();
  if (!at.exists) return;
  write_lags<Blocks>(args, lag_sums, shared.fetched[0][at.warp], at.strip, at.tile, lane);
  if (args.skips == nullptr) return;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 1);
    skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 2);
    if (lane % 4 == 0) args.skips[at.strip * args.plan.channel_tiles * conv_tile + at.channel + 8 * j] = skip_sums[j];
  }
}

}  // namespace

void tensor_core_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const GatedConvGradients& to = args.gradients;
  const std::int64_t D = in.v.columns(), length = args.taps.columns();
  if (in.q.present())
    tensor_core_conv_forward(stream,
                             {.in = {.q = to.d_y, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments},
                              .halo = args.halo,
                              .taps = args.taps,
                              .y = to.d_q});
  const StripPlan plan(in.segments.tokens, D, across, conv_blocks(length) > 5 ? 1024 : 128);
  const bool skip = in.skip.present();
  const Tensor lags(stream, DType::f32, {plan.strips, length, plan.channel_tiles}),
      skips = skip ? Tensor(stream, DType::f32, {plan.strips, D}) : Tensor();
  const MmaBackward strips{.q = rows_of<const bf16>(in.q),
                           .k = rows_of<const bf16>(in.k),
                           .v = rows_of<const bf16>(in.v),
                           .d_y = rows_of<const bf16>(to.d_y),
                           .halo = rows_of<const bf16>(args.halo),
                           .d_k = rows_of<bf16>(to.d_k),
                           .d_v = rows_of<bf16>(to.d_v),
                           .d_halo = rows_of<bf16>(args.d_halo),
                           .taps = ParameterRows<bf16>(args.taps),
                           .skip = ParameterRows<bf16>(in.skip),
                           .segments = in.segments,
                           .group_tiles = D / args.taps.rows() / conv_tile,
                           .length = length,
                           .plan = plan,
                           .lags = static_cast<float*>(lags.view().data),
                           .skips = skip ? static_cast<float*>(skips.view().data) : nullptr};
  with_conv_blocks(length, [&]<int Blocks> {
    constexpr int bytes = static_cast<int>(sizeof(BackwardMemory<Blocks>));
    cuda_check(cudaFuncSetAttribute(mma_backward<Blocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    mma_backward<Blocks><<<plan.grid(), 32 * across, bytes, native_of(stream)>>>(strips);
    cuda_check(cudaGetLastError());
  });
  add_filter_parts<float>(stream,
                          {.partial = strips.lags,
                           .parts = plan.strips,
                           .columns = plan.channel_tiles,
                           .skips = strips.skips,
                           .skip_step = D},
                          args.d_taps, skip ? to.d_skip : TensorView{});
}

}  // namespace causeway::cuda
