#include "kernels/cuda/blocked_conv/blocked_conv_tile.cuh"

namespace causeway::cuda {
namespace {

/// Arguments of the forward kernel: y = q⊙(h∗(k⊙v) + skip⊙(k⊙v)).
struct MmaForward {
  Rows<const bf16> q, k, v, halo;
  Rows<bf16> y;
  ParameterRows<bf16> taps, skip;
  SegmentsView segments;
  std::int64_t group_tiles, length;
  StripPlan plan;
};

enum { k_tile, v_tile, q_tile, tensors };  // the tile of q becomes that of y
constexpr int stages = 8, across = 8;
constexpr std::int64_t max_strip_tiles = 128;
using Tile = BlockTile<across>;

/// block: a strip of tokens by the channels of 8 warps
/// warp: 16 channels of one group, tile after tile down the strip
/// thread: copies 16 bytes of each tile to shared memory and of each result to memory
/// shared memory: a ring of 8 stages of the tiles of k, v and q; the results replace q
/// registers: the filter's Toeplitz blocks, the last `Blocks` tiles of x, the sums of a tile
/// Lower bound: the bytes (blocked_conv.cuh). At 128 taps there are 18 products of 4,096 flops for 256 elements: 0.13
/// ms for L 65536, D 4096.
/// More than 80 lines because all phases share the registers and the functions that address the stages.
template <int Blocks>
__global__ void __launch_bounds__(32 * across, 2) mma_forward(const MmaForward args) {
  extern __shared__ __align__(128) unsigned char memory[];  // [stages][tensors][Tile::bytes]
  const TileThread<across> at(args.plan);
  const int lane = at.lane, row = at.row;
  // 1. The range of tiles: first those before the strip, which only fill the registers, then those of the strip.
  const std::int64_t low = at.strip * args.plan.strip_tiles, high = min(low + args.plan.strip_tiles, args.plan.tiles),
                     reach = conv_blocks(args.length) - 1;
  const std::int64_t first = max(low - reach, args.halo.data != nullptr ? -reach : std::int64_t{0});
  const int count = static_cast<int>(high - first), warm_up = static_cast<int>(low - first);

  // 2. The filter and the starts of documents.
  const ToeplitzFilter<Blocks> filter(args.taps, at.exists ? at.tile / args.group_tiles : 0, args.length, lane);
  const bool has_skip = args.skip.present() && at.exists;
  const float skip[2] = {has_skip ? args.skip(at.channel) : 0.0f, has_skip ? args.skip(at.channel + 8) : 0.0f};
  TileStarts<ScanDirection::left_to_right> tile_starts(args.segments, first, lane);
  const std::int64_t start = args.segments.cu_seqlens[0], tokens = args.segments.tokens;

  const unsigned base = shared_address(memory),
                 matrix_row = Tile::channels_by_tokens(ScanDirection::left_to_right, at.warp, lane);
  const auto slot = [&](int i, int tensor) {
    return base + static_cast<unsigned>((i % stages * tensors + tensor) * Tile::bytes);
  };
  // Copies tile i of the scan to its stage in the background.
  const auto fetch = [&](int i) {
    if (i < count) {
      const std::int64_t t = (first + i) * conv_tile + row;
      if (t < 0) {
        const bool exists = t > -args.length && t >= start && at.copies;
        copy_16_bytes_async(slot(i, v_tile) + at.copy_offset,
                            exists ? &args.halo(args.length - 1 + t, at.column) : args.v.data, exists);
      } else {
        const bool exists = t < tokens && at.copies;
        const std::int64_t from = exists ? t : 0, column = exists ? at.column : 0;
        if (args.k.data != nullptr)
          copy_16_bytes_async(slot(i, k_tile) + at.copy_offset, &args.k(from, column), exists);
        copy_16_bytes_async(slot(i, v_tile) + at.copy_offset, &args.v(from, column), exists);
        if (i >= warm_up && args.q.data != nullptr)
          copy_16_bytes_async(slot(i, q_tile) + at.copy_offset, &args.q(from, column), exists);
      }
    }
    commit_async_copies();
  };
  // Writes the results of tile i.
  const auto write = [&](int i) {
    const std::int64_t t = (first + i) * conv_tile + row;
    if (i >= warm_up && t < tokens && at.copies) write_row(&args.y(t, at.column), slot(i, q_tile) + at.copy_offset);
  };
  // 3. The scan; `ring` is unrolled so that it stays in registers.
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
      fetch(i + stages - 2);  // to the stage whose results have just been written

      // 3a. x = k⊙v.
      std::uint32_t x[4], masked[4];
      ldmatrix_x4<true>(x, slot(i, v_tile) + matrix_row);
      if (args.k.data != nullptr && first + i >= 0) {
        ldmatrix_x4<true>(masked, slot(i, k_tile) + matrix_row);
        multiply_pairs(x, masked);
      }
      // 3b. The products. With a start in the tile, `masked` holds the tokens of one document at a time.
      const unsigned starts = tile_starts.of_tile(first + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) masked[j] = x[j];
      const int before = tokens_before(starts);
      if (starts != 0) keep_columns(masked, x, 0, before, lane);
      float sum[2][4] = {};
      if (i >= warm_up && before > 0) {
        filter.multiply(sum, masked, 0);
#pragma unroll
        for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);
      }
      if (starts != 0) {
        for_each_start(starts, [&](int from, int to) {
          keep_columns(masked, x, from, to, lane);
          filter.replace(sum, masked, from, to, lane);
        });
#pragma unroll
        for (int b = 0; b < Blocks; ++b)
#pragma unroll
          for (int j = 0; j < 4; ++j) ring[b][j] = 0;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) ring[c][j] = masked[j];  // the tokens of the last document

      // 3c. skip and gate.
      if (i >= warm_up) {
        if (args.skip.present()) add_skip(sum, skip, x);
        std::uint32_t gate[4] = {};
        if (args.q.data != nullptr) ldmatrix_x4<true>(gate, slot(i, q_tile) + matrix_row);
        round_gated(x, sum, args.q.data != nullptr, gate);
        __syncwarp();  // all lanes have read q
        stmatrix_x4_transposed(slot(i, q_tile) + matrix_row, x);
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
  return in.v.dtype == DType::bf16 && in.segments.tokens > 0 && args.taps.columns() <= max_conv_taps &&
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
  const MmaForward strips{.q = rows_of<const bf16>(in.q),
                          .k = rows_of<const bf16>(in.k),
                          .v = rows_of<const bf16>(in.v),
                          .halo = rows_of<const bf16>(args.halo),
                          .y = rows_of<bf16>(args.y),
                          .taps = ParameterRows<bf16>(args.taps),
                          .skip = ParameterRows<bf16>(in.skip),
                          .segments = in.segments,
                          .group_tiles = in.v.columns() / args.taps.rows() / conv_tile,
                          .length = args.taps.columns(),
                          .plan = StripPlan(in.segments.tokens, in.v.columns(), across, max_strip_tiles)};
  with_conv_blocks(strips.length, [&]<int Blocks> {
    constexpr int bytes = stages * tensors * Tile::bytes;
    cuda_check(cudaFuncSetAttribute(mma_forward<Blocks>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    mma_forward<Blocks><<<strips.plan.grid(), 32 * across, bytes, native_of(stream)>>>(strips);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace causeway::cuda
