#include "kernels/cuda/blocked_conv/blocked_conv_tile.cuh"

namespace causeway::cuda {
namespace {

/// y = q⊙(h∗(k⊙v) + skip⊙(k⊙v)).
struct ForwardStrips {
  Rows<const bf16> q, k, v, halo;
  Rows<bf16> y;
  Parameter<bf16> taps, skip;
  SegmentsView segments;
  std::int64_t group_tiles, length;
  StripPlan plan;
};

enum { k_tile, v_tile, q_tile, tensors };  // q's becomes y's
constexpr int stages = 8, across = 8;
constexpr std::int64_t longest_strip = 128;
using Tile = BlockTile<across>;

// Floor: bytes, blocked_conv.cuh. At 128 taps 18 products of 4,096 flops for 256 elements: 0.13 ms of L 65536, D 4096.
template <int Blocks>
__global__ void __launch_bounds__(32 * across, 2) convolve_strips(const ForwardStrips of) {
  extern __shared__ __align__(128) unsigned char memory[];  // [stages][tensors][Tile::bytes]
  const StripPlace<across> at(of.plan);
  const int lane = at.lane, row = at.row;
  // The walk: tiles that only fill the registers, then the strip's.
  const std::int64_t low = at.strip * of.plan.strip_tiles, high = min(low + of.plan.strip_tiles, of.plan.tiles),
                     reach = conv_blocks(of.length) - 1;
  const std::int64_t first = max(low - reach, of.halo.data != nullptr ? -reach : std::int64_t{0});
  const int count = static_cast<int>(high - first), warm_up = static_cast<int>(low - first);

  const ToeplitzFilter<Blocks> filter(of.taps, at.exists ? at.tile / of.group_tiles : 0, of.length, lane);
  const bool skips = of.skip.present() && at.exists;
  const float skip[2] = {skips ? of.skip(at.channel) : 0.0f, skips ? of.skip(at.channel + 8) : 0.0f};
  Edges<ScanDirection::left_to_right> edges(of.segments, first, lane);
  const std::int64_t start = of.segments.cu_seqlens[0], tokens = of.segments.tokens;

  const unsigned base = shared_address(memory),
                 read = Tile::channels_by_tokens(ScanDirection::left_to_right, at.which, lane);
  const auto slot = [&](int i, int tensor) {
    return base + static_cast<unsigned>((i % stages * tensors + tensor) * Tile::bytes);
  };
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = (first + i) * conv_tile + row;
      if (t < 0) {
        const bool there = t > -of.length && t >= start && at.inside;
        copy_16_bytes_async(slot(i, v_tile) + at.copied, there ? &of.halo(of.length - 1 + t, at.column) : of.v.data,
                            there);
      } else {
        const bool there = t < tokens && at.inside;
        const std::int64_t from = there ? t : 0, column = there ? at.column : 0;
        if (of.k.data != nullptr) copy_16_bytes_async(slot(i, k_tile) + at.copied, &of.k(from, column), there);
        copy_16_bytes_async(slot(i, v_tile) + at.copied, &of.v(from, column), there);
        if (i >= warm_up && of.q.data != nullptr)
          copy_16_bytes_async(slot(i, q_tile) + at.copied, &of.q(from, column), there);
      }
    }
    commit_async_copies();
  };
  const auto write = [&](int i) {
    const std::int64_t t = (first + i) * conv_tile + row;
    if (i >= warm_up && t < tokens && at.inside) write_row(&of.y(t, at.column), slot(i, q_tile) + at.copied);
  };
#pragma unroll 1
  for (int i = 0; i < stages - 2; ++i) fetch(i);

  std::uint32_t ring[Blocks][4] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int c = 0; c < Blocks; ++c) {
      if (i >= count) break;
      wait_for_async_copies<stages - 3>();
      __syncthreads();
      write(i - 1);
      fetch(i + stages - 2);  // where what was written an iteration ago lay

      std::uint32_t x[4], own[4];
      ldmatrix_x4<true>(x, slot(i, v_tile) + read);
      if (of.k.data != nullptr && first + i >= 0) {
        ldmatrix_x4<true>(own, slot(i, k_tile) + read);
        multiply_pairs(x, own);
      }
      const unsigned starts = edges.of_tile(first + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) own[j] = x[j];
      const int before = tokens_before(starts);
      if (starts != 0) keep_columns(own, x, 0, before, lane);
      float sum[2][4] = {};
      if (i >= warm_up && before > 0) {
        filter.multiply(sum, own, 0);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);
      }
      if (starts != 0) {
        for_each_start(starts, [&](int from, int to) {
          keep_columns(own, x, from, to, lane);
          filter.replace(sum, own, from, to, lane);
        });
#pragma unroll
        for (int b = 0; b < Blocks; ++b)
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = own[j];  // of the last document

      if (i >= warm_up) {
        if (of.skip.present()) add_skip(sum, skip, x);
        std::uint32_t gate[4] = {};
        if (of.q.data != nullptr) ldmatrix_x4<true>(gate, slot(i, q_tile) + read);
        round_gated(x, sum, of.q.data != nullptr, gate);
        __syncwarp();  // all have read q
        stmatrix_x4_transposed(slot(i, q_tile) + read, x);
      }
      ++i;
    }
  }
  __syncthreads();
  write(count - 1);
}

template <class Args>
bool suits(const Args& args, std::initializer_list<TensorView> others) {
  const GatedConvInputs& in = args.in;
  return in.v.dtype == DType::bf16 && in.segments.tokens > 0 && args.taps.columns() <= most_conv_taps &&
         in.v.columns() / args.taps.rows() % conv_tile == 0 && aligned({in.q, in.k, in.v, args.halo}, 16) &&
         aligned(others, 16);
}

}  // namespace

bool suits_tensor_cores(const BlockedConvForward& args) { return suits(args, {args.y}); }
bool suits_tensor_cores(const BlockedConvBackward& args) {
  const GatedConvGradients& g = args.gradients;
  return suits(args, {g.d_y, g.d_q, g.d_k, g.d_v, args.d_halo});
}

void tensor_core_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  const GatedConvInputs& in = args.in;
  const ForwardStrips strips{.q = rows_of<const bf16>(in.q),
                             .k = rows_of<const bf16>(in.k),
                             .v = rows_of<const bf16>(in.v),
                             .halo = rows_of<const bf16>(args.halo),
                             .y = rows_of<bf16>(args.y),
                             .taps = Parameter<bf16>(args.taps),
                             .skip = Parameter<bf16>(in.skip),
                             .segments = in.segments,
                             .group_tiles = in.v.columns() / args.taps.rows() / conv_tile,
                             .length = args.taps.columns(),
                             .plan = StripPlan(in.segments.tokens, in.v.columns(), across, longest_strip)};
  with_conv_blocks(strips.length, [&]<int Blocks> {
    constexpr int bytes = stages * tensors * Tile::bytes;
    cuda_check(cudaFuncSetAttribute(convolve_strips<Blocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    convolve_strips<Blocks><<<strips.plan.grid(), 32 * across, bytes, native_of(stream)>>>(strips);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
