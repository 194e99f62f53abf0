#include "kernels/cuda/blocked_conv_tile.cuh"

// d_taps[j] = Σ_t dc[t] x[t-j]: a tile of dc = q⊙d_y times the transposed tiles of x before it, over the 16 channels, adds
// up 16×16 sums a Toeplitz block, whose diagonals are the lags; they stay in registers for a strip.
//
// Floor: q, k, v, d_y read once.
namespace causeway::cuda {
namespace {

struct StripLags {
  Rows<const bf16> q, k, v, d_y, halo;
  SegmentsView segments;
  std::int64_t length;
  StripPlan plan;
  float* partial;  // [strips][length][channel tiles]
};

/// The tokens [low, high) of a tile [16 tokens, 16 channels], zeros elsewhere.
__device__ void keep_rows(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane / 4 + i % 2 * 8;
    to[i] = token >= low && token < high ? x[i] : 0;
  }
}

/// sum += dc xᵀ; a tile's registers by rows are those of its transpose by columns.
__device__ void multiply_transposed(float (&sum)[2][4], const std::uint32_t (&dc)[4], const std::uint32_t (&x)[4]) {
  multiply_add(sum[0], dc, x[0], x[2]);
  multiply_add(sum[1], dc, x[1], x[3]);
}

template <int Blocks>
__global__ void __launch_bounds__(32 * conv_warps, 3) sum_lags(const StripLags lags) {
  constexpr int tensors = 4, stages = 6;
  __shared__ alignas(128) unsigned char memory[conv_warps][stages][tensors][conv_tile_bytes];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t strip = blockIdx.x / lags.plan.across(), channel_tile = blockIdx.x % lags.plan.across() * conv_warps + warp;
  if (channel_tile >= lags.plan.channel_tiles) return;
  const std::int64_t low = strip * lags.plan.strip_tiles, high = min(low + lags.plan.strip_tiles, lags.plan.tiles);
  const std::int64_t reach = conv_blocks(lags.length) - 1;
  const std::int64_t first = max(low - reach, lags.halo.data != nullptr ? -reach : std::int64_t{0});
  const int warm_up = static_cast<int>(low - first), count = static_cast<int>(high - first);
  Edges<Towards::right> edges(lags.segments, first, lane);
  const std::int64_t start = lags.segments.cu_seqlens[0], tokens = lags.segments.tokens;

  const int row = lane / 2, half = lane % 2;
  const unsigned base = shared_address(memory[warp][0][0]), copied = place_in_tile(row, half), read = place_in_tile(lane % 16, lane / 16);
  const std::int64_t column = channel_tile * conv_tile + half * 8;
  const auto slot = [&](int i, int tensor) { return base + static_cast<unsigned>((i % stages * tensors + tensor) * conv_tile_bytes); };
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = (first + i) * conv_tile + row;
      if (t < 0) {
        const bool there = t > -lags.length && t >= start;
        copy_ahead(slot(i, 1) + copied, &lags.halo(there ? lags.length - 1 + t : 0, column), there);
      } else {
        const bool there = t < tokens;
        const std::int64_t at = there ? t : 0;
        if (lags.k.data != nullptr) copy_ahead(slot(i, 0) + copied, &lags.k(at, column), there);
        copy_ahead(slot(i, 1) + copied, &lags.v(at, column), there);
        if (i >= warm_up) {
          if (lags.q.data != nullptr) copy_ahead(slot(i, 2) + copied, &lags.q(at, column), there);
          copy_ahead(slot(i, 3) + copied, &lags.d_y(at, column), there);
        }
      }
    }
    close_copies();
  };
#pragma unroll 1
  for (int i = 0; i < stages - 1; ++i) fetch(i);

  std::uint32_t ring[Blocks][4] = {};
  float sums[Blocks][2][4] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int c = 0; c < Blocks; ++c) {
      if (i >= count) break;
      wait_for_copies<stages - 2>();
      __syncwarp();
      fetch(i + stages - 1);
      std::uint32_t x[4], dc[4] = {}, own[4], part[4];
      load_matrices<false>(x, slot(i, 1) + read);
      if (lags.k.data != nullptr && first + i >= 0) {
        load_matrices<false>(own, slot(i, 0) + read);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = pair_product(own[j], x[j]);
      }
      if (i >= warm_up) {
        load_matrices<false>(dc, slot(i, 3) + read);
        if (lags.q.data != nullptr) {
          load_matrices<false>(own, slot(i, 2) + read);
#pragma unroll
          for (int j = 0; j < 4; ++j) dc[j] = pair_product(own[j], dc[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) own[j] = x[j], part[j] = dc[j];
      const unsigned starts = edges.of_tile(first + i);
      if (starts != 0) {
        const int end = __ffs(static_cast<int>(starts)) - 1;
        keep_rows(own, x, 0, end, lane);
        keep_rows(part, dc, 0, end, lane);
      }
      if (i >= warm_up) {
        multiply_transposed(sums[0], part, own);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) multiply_transposed(sums[b], part, ring[(c + Blocks - b) % Blocks]);
      }
      if (starts != 0) {
        for_each_start(starts, [&](int from, int to) {
          keep_rows(own, x, from, to, lane);
          keep_rows(part, dc, from, to, lane);
          multiply_transposed(sums[0], part, own);
        });
#pragma unroll
        for (int b = 0; b < Blocks; ++b)
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = own[j];
      ++i;
    }
  }

  // The diagonals i - j of each block's sums, the lags 16 b + i - j, block by block.
  static_assert(sizeof(memory[0]) >= (conv_tile * (conv_tile + 1) + conv_tile * (Blocks + 1)) * sizeof(float));
  wait_for_copies<0>();
  __syncwarp();
  auto* const block = reinterpret_cast<float(*)[conv_tile + 1]>(memory[warp]);
  float* const of_lag = block[conv_tile] + conv_tile - 1;  // from lag -15 on
  for (int j = lane; j < conv_tile * (Blocks + 1); j += 32) of_lag[j - (conv_tile - 1)] = 0;
  for (int b = 0; b < Blocks; ++b) {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float sum = 0;
#pragma unroll
        for (int other = 0; other < Blocks; ++other) sum = other == b ? sums[other][n][e] : sum;
        block[lane / 4 + e / 2 * 8][8 * n + 2 * (lane % 4) + e % 2] = sum;
      }
    __syncwarp();
    const int diagonal = lane - (conv_tile - 1);
    if (diagonal < conv_tile) {
      float sum = 0;
      for (int j = max(0, -diagonal); j < min(conv_tile, conv_tile - diagonal); ++j) sum += block[j + diagonal][j];
      of_lag[conv_tile * b + diagonal] += sum;
    }
  }
  __syncwarp();
  for (std::int64_t lag = lane; lag < lags.length; lag += 32)
    lags.partial[(strip * lags.length + lag) * lags.plan.channel_tiles + channel_tile] = of_lag[lag];
}

}  // namespace

Tensor tensor_core_lags(const Stream& stream, const BlockedConvBackward& args, const StripPlan& plan) {
  Tensor partial(stream, DType::f32, {plan.strips, args.taps.columns(), plan.channel_tiles});
  const auto input = rows_of<const bf16>;
  const StripLags lags{.q = input(args.in.q),
                       .k = input(args.in.k),
                       .v = input(args.in.v),
                       .d_y = input(args.gradients.d_y),
                       .halo = input(args.halo),
                       .segments = args.in.segments,
                       .length = args.taps.columns(),
                       .plan = plan,
                       .partial = static_cast<float*>(partial.view().data)};
  with_conv_blocks(lags.length, [&]<int Blocks> {
    sum_lags<Blocks><<<plan.grid(), dim3(32, conv_warps), 0, native_of(stream)>>>(lags);
    cuda_check(cudaGetLastError());
  });
  return partial;
}

}  // namespace causeway::cuda
