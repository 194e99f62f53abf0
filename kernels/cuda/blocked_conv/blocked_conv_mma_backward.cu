#include "kernels/cuda/blocked_conv/blocked_conv_tile.cuh"

// One walk to the left for d_k, d_v, d_halo, d_taps and d_skip; d_q is the forward convolution gated by d_y.
//
// d_taps[j] = Σ_t dc[t] x[t-j] with x = k⊙v, dc = q⊙d_y: tiles dc [tokens, channels] times xᵀ add up 16×16 sums a
// Toeplitz block, whose diagonals are the lags; they stay in registers for a strip. The tiles of dc are there twice, as
// [channels, tokens] in registers for d_x = Σ_b dc_{n+b} H_bᵀ and as [tokens, channels] in shared memory.
//
// Floor: bytes, blocked_conv.cuh; three accesses an element more than it counts, because d_q is a pass of its own. At
// 128 taps 54 products of 4,096 flops for 256 elements: 0.39 ms of L 65536, D 4096.
namespace causeway::cuda {
namespace {

struct BackwardStrips {
  Rows<const bf16> q, k, v, d_y, halo;
  Rows<bf16> d_k, d_v, d_halo;
  Parameter<bf16> taps, skip;
  SegmentsView segments;
  std::int64_t group_tiles, length;
  StripPlan plan;
  float* lags;   // [strips][length][channel tiles]
  float* skips;  // [strips][channels], or null
};

enum { q_tile, d_y_tile, v_tile, k_tile, tensors };  // v's becomes d_k's, k's d_v's
constexpr int stages = 6, across = 4;
using Tile = BlockTile<across>;

/// What a block keeps in shared memory: tiles on their way, and each warp's tiles of dc that the filter reaches.
template <int Blocks>
struct BlockMemory {
  unsigned char arriving[stages][tensors][Tile::bytes], past[Blocks][Tile::bytes];
};

__device__ void clear_row(unsigned at) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
}

/// sum += dc xᵀ; a tile's registers by rows are those of its transpose by columns.
__device__ void multiply_transposed(float (&sum)[2][4], const std::uint32_t (&dc)[4], const std::uint32_t (&x)[4]) {
  mma_16x8x16(sum[0], dc, x[0], x[2]);
  mma_16x8x16(sum[1], dc, x[1], x[3]);
}

/// The diagonals i - j of each block's sums, which are the lags 16 b + i - j: block by block, each by one lane.
template <int Blocks>
__device__ void write_lags(const BackwardStrips& of, const float (&sums)[Blocks][2][4], void* memory,
                           std::int64_t strip, std::int64_t channel_tile, int lane) {
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
  for (std::int64_t lag = lane; lag < of.length; lag += 32)
    of.lags[(strip * of.length + lag) * of.plan.channel_tiles + channel_tile] = of_lag[lag];
}

template <int Blocks>
__global__ void __launch_bounds__(32 * across, Blocks > 5   ? 2
                                               : Blocks > 3 ? 3
                                                            : 4) walk_back_strips(const BackwardStrips of) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& room = *reinterpret_cast<BlockMemory<Blocks>*>(memory);
  const StripPlace<across> at(of.plan);
  const int lane = at.lane, row = at.row;
  // The walk: tiles that only fill the registers, the strip's, and left of the first strip the halo's.
  const std::int64_t low = at.strip * of.plan.strip_tiles, high = min(low + of.plan.strip_tiles, of.plan.tiles),
                     reach = conv_blocks(of.length) - 1;
  const std::int64_t first = min(high - 1 + reach, of.plan.tiles - 1);
  const bool beyond = low == 0 && (of.halo.data != nullptr || of.d_halo.data != nullptr);
  const int warm_up = static_cast<int>(first - (high - 1)),
            count = static_cast<int>(first - (beyond ? -reach : low)) + 1;

  const ToeplitzFilter<Blocks> filter(of.taps, at.exists ? at.tile / of.group_tiles : 0, of.length, lane);
  const bool skipping = of.skip.present() && at.exists;
  const float skip[2] = {skipping ? of.skip(at.channel) : 0.0f, skipping ? of.skip(at.channel + 8) : 0.0f};
  Edges<ScanDirection::right_to_left> edges(of.segments, first, lane);
  const std::int64_t start = of.segments.cu_seqlens[0], tokens = of.segments.tokens;

  const unsigned base = shared_address(room.arriving), kept = shared_address(room.past),
                 turned = Tile::channels_by_tokens(ScanDirection::right_to_left, at.which, lane),
                 read = Tile::tokens_by_channels(at.which, lane);
  const auto slot = [&](int i, int tensor) {
    return base + static_cast<unsigned>((i % stages * tensors + tensor) * Tile::bytes);
  };
  const unsigned mine = Tile::place(lane / 2, 2 * at.which + lane % 2);  // of a warp's own tile
  const auto past = [&](int c) { return kept + static_cast<unsigned>(c * Tile::bytes); };
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = (first - i) * conv_tile + row;
      if (t < 0) {
        const bool there = of.halo.data != nullptr && t > -of.length && t >= start && at.inside;
        copy_16_bytes_async(slot(i, v_tile) + at.copied, there ? &of.halo(of.length - 1 + t, at.column) : of.v.data,
                            there);
      } else {
        const bool there = t < tokens && at.inside;
        const std::int64_t from = there ? t : 0, column = there ? at.column : 0;
        if (of.q.data != nullptr) copy_16_bytes_async(slot(i, q_tile) + at.copied, &of.q(from, column), there);
        copy_16_bytes_async(slot(i, d_y_tile) + at.copied, &of.d_y(from, column), there);
        if (i >= warm_up) {
          copy_16_bytes_async(slot(i, v_tile) + at.copied, &of.v(from, column), there);
          if (of.k.data != nullptr) copy_16_bytes_async(slot(i, k_tile) + at.copied, &of.k(from, column), there);
        }
      }
    }
    commit_async_copies();
  };
  const auto write = [&](int i) {
    const std::int64_t t = (first - i) * conv_tile + row;
    if (i < warm_up || t >= tokens || !at.inside) return;
    if (t < 0) {
      if (of.d_halo.data != nullptr && t > -of.length)
        write_row(&of.d_halo(of.length - 1 + t, at.column), slot(i, k_tile) + at.copied);
    } else {
      if (of.k.data != nullptr) write_row(&of.d_k(t, at.column), slot(i, v_tile) + at.copied);
      write_row(&of.d_v(t, at.column), slot(i, k_tile) + at.copied);
    }
  };
#pragma unroll 1
  for (int i = 0; i < stages - 2; ++i) fetch(i);
#pragma unroll
  for (int c = 0; c < Blocks; ++c) clear_row(past(c) + at.copied);

  std::uint32_t ring[Blocks][4] = {};
  float lag_sums[Blocks][2][4] = {}, skip_sums[2] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int c = 0; c < Blocks; ++c) {
      if (i >= count) break;
      wait_for_async_copies<stages - 3>();
      __syncthreads();
      write(i - 1);
      fetch(i + stages - 2);  // where what was written an iteration ago lay

      const bool in_run = first - i >= 0;
      std::uint32_t dc[4] = {}, own[4];
      if (in_run) {
        ldmatrix_x4<true>(dc, slot(i, d_y_tile) + turned);
        if (of.q.data != nullptr) {
          ldmatrix_x4<true>(own, slot(i, q_tile) + turned);
          multiply_pairs(dc, own);
        }
      }
      const unsigned starts = edges.of_tile(first - i);
      const int before = tokens_before(starts);
#pragma unroll
      for (int j = 0; j < 4; ++j) own[j] = dc[j];
      stmatrix_x4_transposed(past(c) + turned, dc);
      if (starts != 0) keep_columns(own, dc, 0, before, lane);
      float sum[2][4] = {};
      if (i >= warm_up) {
        filter.multiply(sum, own, 0);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);

        std::uint32_t x[4], x_before[4], dc_rows[4], dc_before[4];
        ldmatrix_x4<false>(x, slot(i, v_tile) + read);
        if (of.k.data != nullptr && in_run) {
          ldmatrix_x4<false>(dc_rows, slot(i, k_tile) + read);
          multiply_pairs(x, dc_rows);
        }
        __syncwarp();  // dc has been stored
        ldmatrix_x4<false>(dc_rows, past(c) + read);
#pragma unroll
        for (int j = 0; j < 4; ++j) x_before[j] = x[j], dc_before[j] = dc_rows[j];
        if (starts != 0) {
          keep_rows(x_before, x, conv_tile - before, conv_tile, lane);
          keep_rows(dc_before, dc_rows, conv_tile - before, conv_tile, lane);
        }
        multiply_transposed(lag_sums[0], dc_before, x_before);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) {
          ldmatrix_x4<false>(dc_before, past((c + Blocks - b) % Blocks) + read);
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
          keep_columns(own, dc, from, to, lane);
          filter.replace(sum, own, from, to, lane);
        });
        __syncwarp();  // all have read what is dropped
#pragma unroll
        for (int b = 0; b < Blocks; ++b) {
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
          if (b != c) clear_row(past(b) + mine);
        }
        stmatrix_x4_transposed(past(c) + turned, own);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = own[j];  // of the last document

      if (i >= warm_up) {
        if (of.skip.present()) add_skip(sum, skip, dc);
        std::uint32_t v[4], k[4] = {}, d_k[4];
        if (in_run) {
          ldmatrix_x4<true>(v, slot(i, v_tile) + turned);
          if (of.k.data != nullptr) ldmatrix_x4<true>(k, slot(i, k_tile) + turned);
          round_gated(d_k, sum, true, v);
          if (of.skips != nullptr) {
            if (of.k.data != nullptr) multiply_pairs(v, k);
#pragma unroll
            for (int j = 0; j < 4; ++j)
              skip_sums[j % 2] += low_bf16(dc[j]) * low_bf16(v[j]) + high_bf16(dc[j]) * high_bf16(v[j]);
          }
        }
        round_gated(dc, sum, in_run && of.k.data != nullptr, k);
        __syncwarp();  // all have read k and v
        if (in_run && of.k.data != nullptr) stmatrix_x4_transposed(slot(i, v_tile) + turned, d_k);
        stmatrix_x4_transposed(slot(i, k_tile) + turned, dc);
      }
      ++i;
    }
  }

  __syncthreads();
  write(count - 1);
  __syncthreads();
  if (!at.exists) return;
  write_lags<Blocks>(of, lag_sums, room.arriving[0][at.which], at.strip, at.tile, lane);
  if (of.skips == nullptr) return;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 1);
    skip_sums[j] += __shfl_xor_sync(~0u, skip_sums[j], 2);
    if (lane % 4 == 0) of.skips[at.strip * of.plan.channel_tiles * conv_tile + at.channel + 8 * j] = skip_sums[j];
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
  const BackwardStrips strips{.q = rows_of<const bf16>(in.q),
                              .k = rows_of<const bf16>(in.k),
                              .v = rows_of<const bf16>(in.v),
                              .d_y = rows_of<const bf16>(to.d_y),
                              .halo = rows_of<const bf16>(args.halo),
                              .d_k = rows_of<bf16>(to.d_k),
                              .d_v = rows_of<bf16>(to.d_v),
                              .d_halo = rows_of<bf16>(args.d_halo),
                              .taps = Parameter<bf16>(args.taps),
                              .skip = Parameter<bf16>(in.skip),
                              .segments = in.segments,
                              .group_tiles = D / args.taps.rows() / conv_tile,
                              .length = length,
                              .plan = plan,
                              .lags = static_cast<float*>(lags.view().data),
                              .skips = skip ? static_cast<float*>(skips.view().data) : nullptr};
  with_conv_blocks(length, [&]<int Blocks> {
    constexpr int bytes = static_cast<int>(sizeof(BlockMemory<Blocks>));
    cuda_check(cudaFuncSetAttribute(walk_back_strips<Blocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    walk_back_strips<Blocks><<<plan.grid(), 32 * across, bytes, native_of(stream)>>>(strips);
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
