#include "kernels/cuda/attention/short_documents.cuh"

namespace causeway::cuda {
namespace {

using namespace short_documents;

/// A gradient [tokens, H, 128] in float32, or in bf16 if it is not added to.
struct Gradient {
  void* data;
  std::int64_t stride;
  bool wide, accumulate;

  Gradient(TensorView x, bool added)
      : data(x.data), stride(x.row_stride), wide(x.dtype == DType::f32), accumulate(added) {}
  /// Adds or writes factor·g, 16 rows in the layout of C, to the thread's two rows if they belong to a document.
  __device__ void store(const float (&g)[1][E / 8][4], float factor, std::int64_t t, const int2 (&own)[2], int head,
                        int lane) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (own[half].x == own[half].y) continue;
      const std::int64_t at = (t + 8 * half + lane / 4) * stride + std::int64_t{head} * E + column_of(0, lane);
      if (!wide) {
        auto* const to = reinterpret_cast<std::uint32_t*>(static_cast<bf16*>(data) + at);
#pragma unroll
        for (int n = 0; n < E / 8; ++n)
          to[4 * n] = pack_bf16(factor * g[0][n][2 * half], factor * g[0][n][2 * half + 1]);
        continue;
      }
      auto* const to = reinterpret_cast<float2*>(static_cast<float*>(data) + at);
#pragma unroll
      for (int n = 0; n < E / 8; ++n) {
        float2 x = accumulate ? to[4 * n] : float2{0, 0};
        x.x += factor * g[0][n][2 * half];
        x.y += factor * g[0][n][2 * half + 1];
        to[4 * n] = x;
      }
    }
  }
};

struct BackwardArguments {
  const ShortBlock* blocks;
  SegmentsView segments;
  Heads q, k, v, d_y;
  const float *lse, *delta;
  std::int64_t lse_stride, delta_stride;
  Gradient d_q, d_k, d_v;
  float scale;
};

/// d_q, d_k and d_v of short documents.
///
/// block: up to 96 rows of a head, consecutive documents of less than 64 tokens (blockIdx.x: block · H + head)
/// warp: 16 queries for d_q, then 16 keys for d_k and d_v; blocks of 16 rows that share a document with them
/// thread: the rows g and g + 8, where g = lane / 4
/// shared memory: tiles q, k, v, d_y [96, 128]; lse and delta; bounds of the documents
/// registers: one gradient [16][4], p and slope [2][4] in the layout of C
/// One function, because its phases share shared memory.
__global__ void __launch_bounds__(threads, 2) short_backward(BackwardArguments args, int heads) {
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ Documents documents;
  __shared__ float lse[rows], delta[rows];
  const ShortBlock block = args.blocks[blockIdx.x / heads];
  const int head = static_cast<int>(blockIdx.x % heads), lane = static_cast<int>(threadIdx.x) % 32,
            warp = static_cast<int>(threadIdx.x) / 32, top = 16 * warp;
  const Tile q{shared_address(memory)}, k = q.skip_rows(rows), v = k.skip_rows(rows), d_y = v.skip_rows(rows);
  const float factor = args.scale * static_cast<float>(log2_e);
  const auto weight = [&](float score, int query) { return exponential_base_2(score * factor - lse[query]); };

  // 1. Load the rows; find the documents.
  load_tile<E, true, rows, threads>(q, only(args.q, block), head, block.row);
  load_tile<E, true, rows, threads>(k, only(args.k, block), head, block.row);
  load_tile<E, true, rows, threads>(v, only(args.v, block), head, block.row);
  load_tile<E, true, rows, threads>(d_y, only(args.d_y, block), head, block.row);
  if (threadIdx.x < rows) {
    const bool inside = static_cast<int>(threadIdx.x) < block.rows;
    const std::int64_t t = block.row + (inside ? static_cast<int>(threadIdx.x) : 0);
    lse[threadIdx.x] = inside ? args.lse[t * args.lse_stride + head] * static_cast<float>(log2_e) : 0;
    delta[threadIdx.x] = inside ? args.delta[t * args.delta_stride + head] : 0;
  }
  documents.find(block, args.segments);
  wait_for_all_async_copies();
  __syncthreads();
  if (top >= block.rows) return;
  const int row[2] = {top + lane / 4, top + lane / 4 + 8};
  const int2 own[2] = {documents.bounds[row[0]], documents.bounds[row[1]]};
  const std::int64_t t = block.row + top;

  // 2. d_q, over the keys. A NaN in a key is also in its scores.
  float gradient[1][E / 8][4], p[1][2][4], slope[1][2][4];
  set_zero(gradient);
  for (int at = documents.bounds[top].x / 16; at <= warp; ++at) {
    scores(p, q, top, k, 16 * at, lane);
    scores(slope, d_y, top, v, 16 * at, lane);
    const bool non_finite = __any_sync(~0u, any_non_finite(p));
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = row_half_of(i), query = row[half];
        const bool seen = sees(query, 16 * at + 8 * n + column_of(i, lane), own[half]);
        slope[0][n][i] = seen ? weight(p[0][n][i], query) * (slope[0][n][i] - delta[query]) : 0;
      }
    multiply_rows(gradient, slope, Fragments::left_operand(k, 16 * at, lane), non_finite);
  }
  args.d_q.store(gradient, args.scale, t, own, head, lane);

  // 3. d_k, over the queries; the scores are transposed. A NaN in a query is in its scores, one in d_y in the slopes.
  const int last = (documents.bounds[min(top + 15, block.rows - 1)].y - 1) / 16;
  bool non_finite_d_y = false;
  set_zero(gradient);
  for (int at = warp; at <= last; ++at) {
    scores(p, k, top, q, 16 * at, lane);
    scores(slope, v, top, d_y, 16 * at, lane);
    const bool non_finite = __any_sync(~0u, any_non_finite(p));
    non_finite_d_y = non_finite_d_y || __any_sync(~0u, any_non_finite(slope));
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int half = row_half_of(i), query = 16 * at + 8 * n + column_of(i, lane);
        const bool seen = sees(query, row[half], own[half]);
        slope[0][n][i] = seen ? weight(p[0][n][i], query) * (slope[0][n][i] - delta[query]) : 0;
      }
    multiply_rows(gradient, slope, Fragments::left_operand(q, 16 * at, lane), non_finite);
  }
  args.d_k.store(gradient, args.scale, t, own, head, lane);

  // 4. d_v, over the queries.
  set_zero(gradient);
  for (int at = warp; at <= last; ++at) {
    scores(p, k, top, q, 16 * at, lane);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = 16 * at + 8 * n + column_of(i, lane);
        p[0][n][i] = sees(query, row[row_half_of(i)], own[row_half_of(i)]) ? weight(p[0][n][i], query) : 0;
      }
    multiply_rows(gradient, p, Fragments::left_operand(d_y, 16 * at, lane), non_finite_d_y);
  }
  if (non_finite_d_y) {  // the keys that see a NaN or infinity in d_y get it back
    const CausalMask::Range seen[2] = {{block.row + row[0], block.row + own[0].y},
                                       {block.row + row[1], block.row + own[1].y}};
    add_non_finite(gradient[0], args.d_y, head, seen, block.row, block.row + block.rows, 0, lane);
  }
  args.d_v.store(gradient, 1, t, own, head, lane);
}

}  // namespace

// Lower bound: read q, k, v and d_y, read and write the gradients in float32. bf16 [65536, 32, 128]: 8.6 GB, 1.8 ms at
// 4.8 TB/s.
void short_attention_backward(const Stream& stream, const AttentionBackward& args,
                              std::vector<std::uint8_t>& computed) {
  const AttentionInputs& in = args.in;
  if (!fits(in) || !rows_start_aligned({args.d_y}, 8) || !rows_start_aligned({args.d_q, args.d_k, args.d_v}, 4)) return;
  const UploadedBlocks blocks(stream, in.segments, computed);
  if (blocks.count == 0) return;
  allow_shared(short_backward, 4 * tile_bytes);
  const BackwardArguments arguments{.blocks = blocks.data(),
                                    .segments = in.segments,
                                    .q = Heads(in.q),
                                    .k = Heads(in.k),
                                    .v = Heads(in.v),
                                    .d_y = Heads(args.d_y),
                                    .lse = static_cast<const float*>(args.lse.data),
                                    .delta = static_cast<const float*>(args.delta.data),
                                    .lse_stride = args.lse.row_stride,
                                    .delta_stride = args.delta.row_stride,
                                    .d_q = {args.d_q, args.accumulate},
                                    .d_k = {args.d_k, args.accumulate},
                                    .d_v = {args.d_v, args.accumulate},
                                    .scale = scale_of_scores()};
  const std::int64_t heads = in.q.shape[1];
  short_backward<<<grid_of(blocks.count * heads), threads, 4 * tile_bytes, native_of(stream)>>>(
      arguments, static_cast<int>(heads));
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda
