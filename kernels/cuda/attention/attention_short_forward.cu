#include "kernels/cuda/attention/short_documents.cuh"

namespace causeway::cuda {
namespace {

using namespace short_documents;

struct ForwardArguments {
  const ShortBlock* blocks;
  SegmentsView segments;
  Heads q, k, v;
  void* y;
  float* lse;
  std::int64_t y_stride, lse_stride;
  bool wide;  ///< y is float32, otherwise bf16
  float scale;

  __device__ void store(std::int64_t at, float first, float second) const {
    if (wide)
      *reinterpret_cast<float2*>(static_cast<float*>(y) + at) = {first, second};
    else
      *reinterpret_cast<std::uint32_t*>(static_cast<bf16*>(y) + at) = pack_bf16(first, second);
  }
};

/// y and lse of short documents.
///
/// block: up to 96 rows of a head, consecutive documents of less than 64 tokens (blockIdx.x: block · H + head)
/// warp: 16 queries, over the blocks of 16 keys from the first one's document on
/// thread: the queries g and g + 8, where g = lane / 4
/// shared memory: tiles q, k, v [96, 128]; bounds of the documents
/// registers: y [16][4] and scores [2][4] in the layout of C
__global__ void __launch_bounds__(threads, 3) short_forward(ForwardArguments args, int heads) {
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ Documents documents;
  const ShortBlock block = args.blocks[blockIdx.x / heads];
  const int head = static_cast<int>(blockIdx.x % heads), lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32, top = 16 * warp;
  const Tile q{shared_address(memory)}, k = q.skip_rows(rows), v = k.skip_rows(rows);
  const float factor = args.scale * static_cast<float>(log2_e);

  // 1. Load the rows; find the documents.
  load_tile<E, true, rows, threads>(q, only(args.q, block), head, block.row);
  load_tile<E, true, rows, threads>(k, only(args.k, block), head, block.row);
  load_tile<E, true, rows, threads>(v, only(args.v, block), head, block.row);
  documents.find(block, args.segments);
  wait_for_all_async_copies();
  __syncthreads();
  if (top >= block.rows) return;
  const int query[2] = {top + lane / 4, top + lane / 4 + 8};
  const int2 own[2] = {documents.bounds[query[0]], documents.bounds[query[1]]};
  const int first = documents.bounds[top].x / 16;

  // 2. The largest score of each query.
  float row_max[2] = {-INFINITY, -INFINITY};
  bool non_finite = false;
  for (int at = first; at <= warp; ++at) {
    float s[1][2][4];
    scores(s, q, top, k, 16 * at, lane);
    non_finite = non_finite || any_non_finite_in(v, 16 * at, lane);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = row_half_of(i);
        if (sees(query[half], 16 * at + 8 * n + column_of(i, lane), own[half]))
          row_max[half] = fmaxf(row_max[half], s[0][n][i]);
      }
  }
  non_finite = __any_sync(~0u, non_finite);
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int step = 1; step < 4; step *= 2)
      row_max[half] = fmaxf(row_max[half], __shfl_xor_sync(~0u, row_max[half], step));

  // 3. y = Σ weights · values, and the sum of the weights.
  float y[1][E / 8][4], sum[2] = {};
  set_zero(y);
  for (int at = first; at <= warp; ++at) {
    float s[1][2][4];
    scores(s, q, top, k, 16 * at, lane);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = row_half_of(i);
        const bool seen = sees(query[half], 16 * at + 8 * n + column_of(i, lane), own[half]);
        s[0][n][i] = seen ? exponential_base_2((s[0][n][i] - row_max[half]) * factor) : 0;
        sum[half] += s[0][n][i];
      }
    multiply_rows(y, s, Fragments::left_operand(v, 16 * at, lane), non_finite);
  }
  if (non_finite) {  // the queries that see a NaN or infinity get it back
    const CausalMask::Range seen[2] = {{block.row + own[0].x, block.row + query[0] + 1},
                                       {block.row + own[1].x, block.row + query[1] + 1}};
    add_non_finite(y[0], args.v, head, seen, block.row, block.row + block.rows, 0, lane);
  }

  // 4. Write y and lse.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) sum[half] += __shfl_xor_sync(~0u, sum[half], step);
    if (own[half].x == own[half].y) continue;
    const std::int64_t t = block.row + query[half], at = t * args.y_stride + std::int64_t{head} * E;
    const float share = 1 / sum[half];
#pragma unroll
    for (int n = 0; n < E / 8; ++n)
      args.store(at + 8 * n + column_of(0, lane), y[0][n][2 * half] * share, y[0][n][2 * half + 1] * share);
    if (lane % 4 == 0) args.lse[t * args.lse_stride + head] = row_max[half] * args.scale + logf(sum[half]);
  }
}

}  // namespace

// Lower bound: read q, k and v, write y. bf16 [65536, 32, 128]: 2.15 GB, 0.45 ms at 4.8 TB/s.
void short_attention_forward(const Stream& stream, const AttentionForward& args, std::vector<std::uint8_t>& computed) {
  const AttentionInputs& in = args.in;
  if (!fits(in) || args.accumulate || !rows_start_aligned({args.y}, 4)) return;
  const UploadedBlocks blocks(stream, in.segments, computed);
  if (blocks.count == 0) return;
  allow_shared(short_forward, 3 * tile_bytes);
  const ForwardArguments arguments{.blocks = blocks.data(),
                                   .segments = in.segments,
                                   .q = Heads(in.q),
                                   .k = Heads(in.k),
                                   .v = Heads(in.v),
                                   .y = args.y.data,
                                   .lse = static_cast<float*>(args.lse.data),
                                   .y_stride = args.y.row_stride,
                                   .lse_stride = args.lse.row_stride,
                                   .wide = args.y.dtype == DType::f32,
                                   .scale = scale_of_scores()};
  const std::int64_t heads = in.q.shape[1];
  short_forward<<<grid_of(blocks.count * heads), threads, 3 * tile_bytes, native_of(stream)>>>(arguments,
                                                                                               static_cast<int>(heads));
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda
