#include <cmath>

#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/device/functions.cuh"

namespace causeway::cuda {
namespace {

constexpr int threads = 128, key_block = 64;

/// y and lse as device code writes them.
struct ForwardOutput {
  void* y;
  float* lse;
  std::int64_t y_stride, lse_stride;
  bool wide;   ///< y is float32, otherwise bf16
  bool pairs;  ///< two neighbouring elements of y can be written in one access
  bool accumulate;

  explicit ForwardOutput(const AttentionForward& args)
      : y(args.y.data),
        lse(static_cast<float*>(args.lse.data)),
        y_stride(args.y.row_stride),
        lse_stride(args.lse.row_stride),
        wide(args.y.dtype == DType::f32),
        pairs(args.y.shape[2] % 2 == 0 && rows_start_aligned({args.y}, 2)),
        accumulate(args.accumulate) {}

  __device__ float load(std::int64_t at) const {
    return wide ? static_cast<const float*>(y)[at] : static_cast<float>(static_cast<const bf16*>(y)[at]);
  }
  __device__ void store(std::int64_t at, float value) const {
    if (wide)
      static_cast<float*>(y)[at] = value;
    else
      static_cast<bf16*>(y)[at] = narrowed<bf16>(value);
  }
  __device__ void store(std::int64_t at, float first, float second) const {
    if (wide)
      *reinterpret_cast<float2*>(static_cast<float*>(y) + at) = {first, second};
    else
      *reinterpret_cast<std::uint32_t*>(static_cast<bf16*>(y) + at) = pack_bf16(first, second);
  }
};

/// The online softmax update of one 16-row block of scores, of which a thread has two rows: replaces the row maximum,
/// turns the scores s into weights exp(s/√E - maximum), and rescales the row's sum and y to the new maximum. `factor`
/// is log2(e)/√E.
template <int E, int N>
__device__ void online_softmax_update(float (&s)[N][4], float factor, float (&row_max)[2], float (&sum)[2],
                                      float (&y)[E / 8][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float new_max = row_max[half];
#pragma unroll
    for (int n = 0; n < N; ++n) new_max = fmaxf(new_max, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    new_max = fmaxf(new_max, __shfl_xor_sync(~0u, new_max, 1));
    new_max = fmaxf(new_max, __shfl_xor_sync(~0u, new_max, 2));
    const float base = new_max == -INFINITY ? 0 : new_max * factor,
                rescale = exponential_base_2(row_max[half] * factor - base);
    float block_sum = 0;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[n][i] = exponential_base_2(s[n][i] * factor - base);
        block_sum += s[n][i];
      }
    sum[half] = sum[half] * rescale + block_sum;
    row_max[half] = new_max;
#pragma unroll
    for (int n = 0; n < E / 8; ++n) {
      y[n][2 * half] *= rescale;
      y[n][2 * half + 1] *= rescale;
    }
  }
}

/// Writes y and lse of one row: y over the sum of the weights. If `before`, the lse that is already in memory, is not
/// -∞, the row is merged with the y in memory by the weights exp(lse).
template <int E>
__device__ void write_row(const ForwardOutput& to, const Heads& q, std::int64_t t, int head, int half, float before,
                          float row_max, float sum, float scale, const float (&y)[E / 8][4], int lane) {
  float lse = sum == 0 ? -INFINITY : row_max * scale + logf(sum), share = sum == 0 ? 0 : 1 / sum, kept = 0;
  if (before != -INFINITY) {
    if (sum == 0) return;
    const float new_max = fmaxf(before, lse), old_part = exponential(before - new_max),
                new_part = exponential(lse - new_max);
    kept = old_part / (old_part + new_part);
    share *= new_part / (old_part + new_part);
    lse = new_max + logf(old_part + new_part);
  }
  if (lane % 4 == 0) to.lse[t * to.lse_stride + head] = lse;
  const std::int64_t row = t * to.y_stride + std::int64_t{head} * q.width;
#pragma unroll
  for (int n = 0; n < E / 8; ++n) {
    const int e = 8 * n + column_of(0, lane);
    float value[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      value[i] = y[n][2 * half + i] * share;
      if (before != -INFINITY && e + i < q.width) value[i] += kept * to.load(row + e + i);
    }
    if (to.pairs && e < q.width) {
      to.store(row + e, value[0], value[1]);
    } else {
      for (int i = 0; i < 2; ++i)
        if (e + i < q.width) to.store(row + e + i, value[i]);
    }
  }
}

/// Attention by tiles with online softmax (FlashAttention-2: Dao, arXiv 2307.08691). The loads overlap: values arrive
/// while scores are computed, the next keys while the values are multiplied.
///
/// block: 64·M queries of a head, over all keys that they see, 64 keys at a time (blockIdx.y: head)
/// warp: 16·M queries; its products are 16·M by 64 scores and 16·M by E outputs
/// thread: of each 16-row block the rows g and g + 8, where g = lane / 4
/// shared memory: tiles q [64·M, E], k [64, E], v [64, E]; the range of keys that each query sees
/// registers: y [M][E/8][4] and scores [M][8][4] in the layout of C; maximum and sum of the thread's 2·M rows
/// One function, because its phases share registers and shared memory.
template <int E, int M, bool exact>
__global__ void __launch_bounds__(threads, E > 128 ? 1 : 2)
    forward(CausalMask mask, Heads q_rows, Heads k_rows, Heads v_rows, ForwardOutput result, float scale) {
  constexpr int queries = 64 * M;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ CausalMask::Range ranges[queries];
  __shared__ bool left_out[queries];
  const int head = static_cast<int>(blockIdx.y),
            block = static_cast<int>(gridDim.x - 1 - blockIdx.x);  // begins with the last queries, which see most keys
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
            top_row = 16 * M * warp;
  const HeadTile<E> q{shared_address(memory)}, k = q.skip_rows(queries), v = k.skip_rows(key_block);
  const int start = block * queries, last = min(queries, q_rows.rows - start) - 1;
  const float factor = scale * static_cast<float>(log2_e);

  // 1. Find the keys that each query sees; load the queries and the first keys.
  if (threadIdx.x < queries) ranges[threadIdx.x] = mask.keys_of(start + min(static_cast<int>(threadIdx.x), last));
  if (mask.leaves_out_documents()) {
    const bool out = threadIdx.x >= queries || mask.leaves_out(start + min(static_cast<int>(threadIdx.x), last));
    if (threadIdx.x < queries) left_out[threadIdx.x] = out;
    if (__syncthreads_and(out)) return;
  }
  load_tile<E, exact, queries, threads>(q, q_rows, head, start);
  __syncthreads();
  const int begin = ranges[0].begin, end = ranges[queries - 1].end;
  const int seen_by_all = ranges[0].end, seen_by_last = ranges[queries - 1].begin;
  const int warp_begin = ranges[top_row].begin, warp_end = ranges[top_row + 16 * M - 1].end;
  if (begin < end) load_tile<E, exact, key_block, threads>(k, k_rows, head, begin);

  float y[M][E / 8][4] = {}, row_max[M][2], sum[M][2] = {};
#pragma unroll
  for (int m = 0; m < M; ++m) row_max[m][0] = row_max[m][1] = -INFINITY;

  for (int first = begin; first < end; first += key_block) {
    // 2. Scores of 64 keys. `complete`: every query of the block sees all of them.
    const bool complete = seen_by_last <= first && first + key_block <= seen_by_all;
    const bool seen_by_warp = warp_begin < first + key_block && first < warp_end;
    float s[M][key_block / 8][4];
    wait_for_all_async_copies();
    __syncthreads();
    load_tile<E, exact, key_block, threads>(v, v_rows, head, first);
    if (seen_by_warp) {
#pragma unroll
      for (int m = 0; m < M; ++m)
#pragma unroll
        for (int n = 0; n < key_block / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) s[m][n][i] = 0;
      multiply_transposed(s, TileFragments<E>::left_operand(q, top_row, lane),
                          TileFragments<E>::right_operand(k, 0, lane));
    }
    // 3. Wait for the values; make them finite where some query does not see some key, because 0·NaN is NaN.
    wait_for_all_async_copies();
    __syncthreads();
    if (first + key_block < end) load_tile<E, exact, key_block, threads>(k, k_rows, head, first + key_block);
    const bool non_finite = !complete && __syncthreads_or(zero_non_finite<E, key_block, threads>(v));
    if (!seen_by_warp) continue;
      // 4. Mask the scores and update the softmax.
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int row = top_row + 16 * m + lane / 4;
      if (!complete) {
        const CausalMask::Range seen[2] = {ranges[row], ranges[row + 8]};
#pragma unroll
        for (int n = 0; n < key_block / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int key = first + 8 * n + column_of(i, lane);
            if (key < seen[row_half_of(i)].begin || key >= seen[row_half_of(i)].end) s[m][n][i] = -INFINITY;
          }
      }
      online_softmax_update<E>(s[m], factor, row_max[m], sum[m], y[m]);
    }
    // 5. y += weights · values; the queries that see a NaN or infinity get it back.
    multiply(y, s, TileFragments<E>::left_operand(v, 0, lane));
    if (non_finite) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const int row = top_row + 16 * m + lane / 4;
        add_non_finite(y[m], v_rows, head, {ranges[row], ranges[row + 8]}, first, first + key_block, 0, lane);
      }
    }
  }

  // 6. Write y and lse.
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = top_row + 16 * m + 8 * half + lane / 4;
      const float before =
          result.accumulate && row <= last ? result.lse[(start + row) * result.lse_stride + head] : -INFINITY;
      __syncwarp();  // all four lanes of a row have read the lse that one of them overwrites
      float row_sum = sum[m][half];
      row_sum += __shfl_xor_sync(~0u, row_sum, 1);
      row_sum += __shfl_xor_sync(~0u, row_sum, 2);
      if (row <= last && !(mask.leaves_out_documents() && left_out[row]))
        write_row<E>(result, q_rows, start + row, head, half, before, row_max[m][half], row_sum, scale, y[m], lane);
    }
}

template <int E, int M, bool exact>
void launch(const Stream& stream, const AttentionForward& args, const std::uint8_t* computed) {
  const AttentionInputs& in = args.in;
  const float scale = 1 / std::sqrt(static_cast<float>(in.q.shape[2]));
  constexpr int bytes = HeadTile<E>::bytes(64 * M + 2 * key_block);
  allow_shared(forward<E, M, exact>, bytes);
  const dim3 grid(grid_of(in.q.rows(), 64 * M), grid_of(in.q.shape[1]));
  forward<E, M, exact><<<grid, threads, bytes, native_of(stream)>>>(CausalMask(in, computed), Heads(in.q), Heads(in.k),
                                                                    Heads(in.v), ForwardOutput(args), scale);
  cuda_check(cudaGetLastError());
}

}  // namespace

// Lower bound: 4·E operations for each pair of a query and a key that it sees. bf16 [65536, 32, 128], one
// document: 35.2 TFLOP, 46 ms at the 759 TFLOP/s of a GEMM.
void tile_attention_forward(const Stream& stream, const AttentionForward& args, const std::uint8_t* computed) {
  const AttentionInputs& in = args.in;
  const bool aligned = Heads(in.q).aligned && Heads(in.k).aligned && Heads(in.v).aligned;
  const std::int64_t E = in.q.shape[2];
  if (E == 128 && aligned)
    launch<128, 2, true>(stream, args, computed);
  else if (E == 64 && aligned)
    launch<64, 2, true>(stream, args, computed);
  else if (E <= 64)
    launch<64, 2, false>(stream, args, computed);
  else if (E <= 128)
    launch<128, 2, false>(stream, args, computed);
  else
    launch<256, 1, false>(stream, args, computed);
}

}  // namespace causeway::cuda
