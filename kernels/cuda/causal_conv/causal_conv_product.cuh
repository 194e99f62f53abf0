#pragma once

#include <cstdint>

#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/warpgroup_product.cuh"

/// causal_conv's backward with d_y_product: the gradient of y is d_y + a·b. In Mamba b is x_proj's weight, and the sum
/// would otherwise be written by a matrix product and read again.
///
/// The product of a stage, [64 channels, 32 tokens] for each warpgroup, comes out of the tensor cores in the layout in
/// which the taps are computed: rows of C are channels, and its columns are arranged so that a lane has two channels of
/// consecutive tokens of one strip. So the product needs no shared memory, and the sum is not rounded.
///
/// Lower bound (H200, 4.23 TB/s of copies), L 16384, D 4096, K 160: x and d_y read, d_x written, 0.095 ms. The product
/// takes 0.022 ms of the tensor cores. About 33 instructions an element are 0.074 ms if one is issued in each cycle. a
/// is read from the L2 cache once for each 128 channels, 168 MB. Measured: README.md.
namespace causeway::cuda::product_strips {

constexpr int Taps = 4;
constexpr int groups = 2, group_threads = 256, group_warps = group_threads / 32;
constexpr int block_threads = groups * group_threads, block_channels = 128;
constexpr int strips = 4;                          ///< of a group: one for each lane of four
constexpr int stage_rows = 8;                      ///< tokens of a strip that a stage computes
constexpr int stage_tokens = strips * stage_rows;  ///< columns of a stage's product
constexpr int most_stages = 128;                   ///< of a strip
constexpr int a_slots = 3;                         ///< stages of a in shared memory
constexpr int row_bytes = block_channels * 2;
constexpr int strip_bytes = stage_rows * row_bytes + 32;  ///< 32: the four strips are in different banks
constexpr int tile_bytes = strips * strip_bytes;          ///< a stage's x or d_y
constexpr int b_stride = block_channels * 16;             ///< k_stride of b in shared memory
constexpr int a_stride = stage_tokens * 16 + 32;          ///< of a; 32: neighbours along k are in different banks

__device__ inline void copy_16_bytes_async(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
/// This thread arrives when its asynchronous copies so far are complete.
__device__ inline void arrive_after_copies(SharedBarrier& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&barrier.word)) : "memory");
}

struct Arguments {
  const bf16 *x, *d_y, *weight, *bias, *a, *b;
  bf16* d_x;
  std::int64_t x_stride, d_y_stride, d_x_stride, weight_stride, bias_stride, a_stride, b_stride;
  SegmentsView segments;
  std::int64_t channels;
  int eights;        ///< an eighth of the product's inner extent
  int strip_tokens;  ///< 8 m - 3
  float* parts;      ///< [groups of blocks along the tokens, Taps + 1, channels]
};

/// The shared memory of a group. A barrier of a slot completes a phase for each stage that takes the slot.
template <int eights, int slots>
struct GroupMemory {
  alignas(128) unsigned char a[a_slots][eights * a_stride];
  alignas(128) unsigned char queue[slots][2][tile_bytes];  ///< x, then the d_x in the same rows; d_y
  SharedBarrier a_full[a_slots], rows_full[slots];         ///< the copies of all threads are complete
  SharedBarrier written[slots];                            ///< all warps are done with the slot: it holds d_x
  unsigned starts[strips][most_stages / 4];                ///< bit k: token k of the strip is the first of its document
  int in_document[strips];  ///< tokens before the strip in its first token's document, at most Taps
};
template <int eights, int slots>
struct BlockMemory {
  alignas(128) unsigned char b[eights * b_stride];
  GroupMemory<eights, slots> group[groups];
};

/// Step i of channel v in a stage's product, as a lane holds it.
__device__ constexpr int at(int i, int v) { return i / 2 * 4 + v * 2 + i % 2; }

/// block: 2 groups of 8 warps, which share b; 128 channels
/// group: 4 consecutive strips of tokens; one part of d_weight and d_bias
/// warp: 16 channels of the group's strips; lane 4g + t has channels 2g and 2g + 1 of strip t, token after token
/// shared memory: b, transposed; for each group a queue of stages of a, x and d_y; d_x takes the place of x
/// registers: the window of x and the weights, rows of d_x, the sums of d_weight and d_bias, a stage's C and rows of x
///
/// The phases share most of these registers: therefore one function.
template <bool Silu, int slots, int eights>
__global__ void __launch_bounds__(block_threads, 1) backward(const Arguments args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) unsigned char memory[];
  auto& block_memory = *reinterpret_cast<BlockMemory<eights, slots>*>(memory);
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / group_threads, 0);
  auto& shared = block_memory.group[group];
  const int thread = static_cast<int>(threadIdx.x) % group_threads, lane = thread % 32,
            warp = __shfl_sync(~0u, thread / 32, 0);
  const int g = lane / 4, t = lane % 4;
  const int columns = static_cast<int>(args.channels / block_channels);
  const std::int64_t part = blockIdx.x / columns * groups + group,
                     block_channel = blockIdx.x % columns * block_channels;
  const int S = args.strip_tokens;
  const std::int64_t group_begin = part * strips * S;
  const std::int64_t tokens = args.segments.tokens;
  const auto left_of = [&](int strip) {
    const std::int64_t after = tokens - group_begin - strip * S;
    return static_cast<int>(max(std::int64_t{0}, min(after, std::int64_t{S + Taps - 1})));
  };

  // 1. Start to copy the first stages. A thread copies the same 16 bytes of two rows of x, d_y and d_x in every stage.
  const int copy_strip = thread / 128;
  const std::int64_t copy_token = group_begin + copy_strip * S + thread / 16 % 8,
                     copy_channel = block_channel + thread % 16 * 8;
  const unsigned copy_in = copy_strip * strip_bytes + thread / 16 % 8 * row_bytes + thread % 16 * 16;
  const int copy_left[2] = {left_of(copy_strip), left_of(copy_strip + 2)};
  const bf16* x_from = args.x + copy_token * args.x_stride + copy_channel;
  const bf16* d_y_from = args.d_y + copy_token * args.d_y_stride + copy_channel;
  bf16* d_x_to = args.d_x + (copy_token - (Taps - 1)) * args.d_x_stride + copy_channel;
  int copy_row = thread / 16 % 8, store_row = copy_row - (Taps - 1);
  const unsigned queue = shared_address(&shared.queue[0][0][0]) + copy_in;
  const auto load_rows = [&](int slot) {
    const unsigned to = queue + slot * 2 * tile_bytes;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (copy_row < copy_left[i]) {
        copy_16_bytes_async(to + i * 2 * strip_bytes, x_from + i * 2 * S * args.x_stride);
        copy_16_bytes_async(to + i * 2 * strip_bytes + tile_bytes, d_y_from + i * 2 * S * args.d_y_stride);
      }
    x_from += stage_rows * args.x_stride;
    d_y_from += stage_rows * args.d_y_stride;
    copy_row += stage_rows;
    arrive_after_copies(shared.rows_full[slot]);
  };
  const auto store_rows = [&](int slot) {
    const unsigned char* const from = &shared.queue[slot][0][0] + copy_in;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (store_row >= 0 && store_row < min(copy_left[i], S))
        *reinterpret_cast<uint4*>(d_x_to + i * 2 * S * args.d_x_stride) =
            *reinterpret_cast<const uint4*>(from + i * 2 * strip_bytes);
    d_x_to += stage_rows * args.d_x_stride;
    store_row += stage_rows;
  };
  // A piece of a is 8 values of a row; neighbouring threads have neighbouring pieces.
  constexpr int a_pieces = (stage_tokens * eights + group_threads - 1) / group_threads;
  const bf16* a_from[a_pieces];
  unsigned a_to[a_pieces];
  int a_left[a_pieces];
#pragma unroll
  for (int i = 0; i < a_pieces; ++i) {
    const int piece = thread + i * group_threads, column = piece / eights, eight = piece % eights;
    const int strip = column % 8 / 2, row = column / 8 * 2 + column % 2;
    a_from[i] = args.a + (group_begin + strip * S + row) * args.a_stride + eight * 8;
    a_to[i] = shared_address(&shared.a[0][0]) + eight * a_stride + column * 16;
    a_left[i] = piece < stage_tokens * eights && eight < args.eights ? left_of(strip) - row : 0;
  }
  const auto copy_a = [&](int slot) {
#pragma unroll
    for (int i = 0; i < a_pieces; ++i) {
      if (a_left[i] > 0) copy_16_bytes_async(a_to[i] + slot * eights * a_stride, a_from[i]);
      a_from[i] += stage_rows * args.a_stride;
      a_left[i] -= stage_rows;
    }
    arrive_after_copies(shared.a_full[slot]);
  };
  if (thread == 0) {
    for (SharedBarrier& barrier : shared.a_full) barrier.initialize(group_threads);
    for (SharedBarrier& barrier : shared.rows_full) barrier.initialize(group_threads);
    for (SharedBarrier& barrier : shared.written) barrier.initialize(group_warps);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < (slots > a_slots ? slots : a_slots); ++i) {
    if (i < a_slots) copy_a(i);
    if (i < slots) load_rows(i);
  }
  for (int i = args.eights * (a_stride / 16) + thread; i < eights * (a_stride / 16); i += group_threads)
    for (int slot = 0; slot < a_slots; ++slot) reinterpret_cast<uint4*>(shared.a[slot])[i] = make_uint4(0, 0, 0, 0);

  // 2. b, transposed; the documents; the weights and the rows before the strip.
  {
    const int octet = warp * 2 + group, channel = octet * 8 + g, pair = channel % 16;
    unsigned char* const to = block_memory.b + (channel - pair + pair % 2 * 8 + pair / 2) * 16 + t * 4;
    const bf16* const from = args.b + block_channel + octet * 8 + t * 2;
#pragma unroll
    for (int e = 0; e < eights; ++e) {
      const int k = e * 8 + g;
      const std::uint32_t value =
          e < args.eights ? *reinterpret_cast<const std::uint32_t*>(from + k * args.b_stride) : 0;
      *reinterpret_cast<std::uint32_t*>(to + e * b_stride) = transposed_8x8(value);
    }
  }
  if (warp < strips) {
    const std::int64_t begin = group_begin + warp * S, end = begin + left_of(warp), count = args.segments.count;
    const std::int64_t* const cu_seqlens = args.segments.cu_seqlens;
    for (int i = lane; i < most_stages / 4; i += 32) shared.starts[warp][i] = 0;
    __syncwarp();
    if (end > begin) {
      const std::int64_t first = warp_upper_bound(cu_seqlens, count + 1, begin - 1, lane);
      if (lane == 0)
        shared.in_document[warp] = first < count && cu_seqlens[first] == begin
                                       ? 0
                                       : static_cast<int>(min(begin - cu_seqlens[first - 1], std::int64_t{Taps}));
      for (std::int64_t i = first + lane; i < count && cu_seqlens[i] < end; i += 32) {
        const int at = static_cast<int>(cu_seqlens[i] - begin);
        atomicOr(&shared.starts[warp][at / 32], 1u << at % 32);
      }
    }
  }
  const int own_channel = warp * 16 + g * 2;
  const std::int64_t channel = block_channel + own_channel, begin = group_begin + t * S;
  const int left = left_of(t), count = min(left, S);
  constexpr float scale = weight_scale<float, Silu>;
  float weight[Taps][2], bias[2];
#pragma unroll
  for (int v = 0; v < 2; ++v) {
    bias[v] = args.bias != nullptr ? scale * widened(args.bias[(channel + v) * args.bias_stride]) : 0.0f;
#pragma unroll
    for (int j = 0; j < Taps; ++j)
      weight[j][v] = scale * widened(args.weight[(channel + v) * args.weight_stride + Taps - 1 - j]);
  }
  std::uint32_t before[Taps - 1] = {};
#pragma unroll
  for (int j = 1; j < Taps; ++j)
    if (left > 0 && begin >= j)
      before[j - 1] = *reinterpret_cast<const std::uint32_t*>(args.x + (begin - j) * args.x_stride + channel);
  fence_shared_memory_for_wgmma();
  __syncthreads();
  float x[Taps][2] = {};
  int reach = left > 0 ? shared.in_document[t] : 0;
#pragma unroll
  for (int j = 1; j < Taps; ++j) {
    x[j - 1][0] = j <= reach ? low_bf16(before[j - 1]) : 0.0f;
    x[j - 1][1] = j <= reach ? high_bf16(before[j - 1]) : 0.0f;
  }

  // 3. The tokens of the strips, in stages of 8 tokens of each.
  float d_x[Taps][2] = {}, sums[Taps + 1][2] = {};
  const unsigned own = t * strip_bytes + own_channel * 2;
  const std::uint64_t b_operand = wgmma_operand(shared_address(block_memory.b) + warp / 4 * 64 * 16, b_stride);
  const int stages = (S + Taps - 1) / stage_rows;
  // The slots of the stage, and of the stage before; bit 0 of a turn is the parity of the slot's barriers.
  int slot = 0, turn = 0, slot_before = 0, turn_before = 0, a_slot = 0, a_turn = 0;
  for (int stage = 0; stage < stages; ++stage) {
    unsigned char* const tile = &shared.queue[slot][0][0] + own;
    shared.a_full[a_slot].wait(a_turn & 1);
    shared.rows_full[slot].wait(turn & 1);
    fence_shared_memory_for_wgmma();
    // 3a. g before the slope: d_y, to which the product is added.
    float c[stage_tokens / 2];
#pragma unroll
    for (int i = 0; i < stage_rows; ++i) {
      const auto pair = *reinterpret_cast<const std::uint32_t*>(tile + tile_bytes + i * row_bytes);
      c[at(i, 0)] = low_bf16(pair);
      c[at(i, 1)] = high_bf16(pair);
    }
    wgmma_fence();
    const std::uint64_t a_operand = wgmma_operand(shared_address(shared.a[a_slot]), a_stride);
#pragma unroll
    for (int e = 0; e < eights; e += 2)
      wgmma_64x32x16(c, b_operand + e * (b_stride >> 4), a_operand + e * (a_stride >> 4));
    wgmma_commit();
    const unsigned starts = reinterpret_cast<const unsigned char*>(shared.starts[t])[stage];
    std::uint32_t rows[stage_rows];
#pragma unroll
    for (int i = 0; i < stage_rows; ++i) rows[i] = *reinterpret_cast<const std::uint32_t*>(tile + i * row_bytes);
    wgmma_wait(c);
    // 3b. `whole`: the four rows are in the strip of each lane and reach as far as the taps, and so do the d_x that
    // they complete.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = stage * stage_rows + half * 4;
      const auto compute = [&]<bool whole> {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int k = first + i, row = half * 4 + i;
#pragma unroll
          for (int j = Taps - 1; j > 0; --j)
#pragma unroll
            for (int v = 0; v < 2; ++v) x[j][v] = x[j - 1][v];
          x[0][0] = low_bf16(rows[row]);
          x[0][1] = high_bf16(rows[row]);
          if (!whole) reach = k >= left ? 0 : starts >> row & 1 ? 1 : min(reach + 1, Taps);
          float gradient[2];
#pragma unroll
          for (int v = 0; v < 2; ++v) {
            float sum = bias[v];
#pragma unroll
            for (int j = 0; j < Taps; ++j)
              if (whole || j < reach) sum += weight[j][v] * x[j][v];
            gradient[v] = scaled_gradient<Silu>(c[at(row, v)], sum);
          }
#pragma unroll
          for (int j = Taps - 1; j >= 0; --j)
#pragma unroll
            for (int v = 0; v < 2; ++v) {
              const float earlier = j > 0 ? d_x[j > 0 ? j - 1 : 0][v] : 0.0f;
              d_x[j][v] = whole || j < reach ? earlier + weight[j][v] * gradient[v] : earlier;
              if (whole || (j < reach && k < count)) sums[j][v] += gradient[v] * x[j][v];
            }
          if (whole || k < count)
#pragma unroll
            for (int v = 0; v < 2; ++v) sums[Taps][v] += gradient[v];
          *reinterpret_cast<std::uint32_t*>(tile + row * row_bytes) = pack_bf16(d_x[Taps - 1][0], d_x[Taps - 1][1]);
        }
      };
      const bool whole = first + 4 <= count && reach + 1 >= Taps && (starts >> half * 4 & 15) == 0;
      if (__all_sync(~0u, whole)) {
        compute.template operator()<true>();
        reach = Taps;
      } else {
        compute.template operator()<false>();
      }
      // 3c. In the middle, when the other warps are likely to be done with the stage before: store its d_x, which each
      // thread then replaces by copies of a later stage.
      if (half == 0 && stage > 0) {
        shared.written[slot_before].wait(turn_before & 1);
        store_rows(slot_before);
        copy_a(a_slot == 0 ? a_slots - 1 : a_slot - 1);
        load_rows(slot_before);
      }
    }
    shared.written[slot].arrive_as_warp();
    slot_before = slot;
    turn_before = turn;
    if (++slot == slots) slot = 0, ++turn;
    if (++a_slot == a_slots) a_slot = 0, ++a_turn;
  }
  shared.written[slot_before].wait(turn_before & 1);
  store_rows(slot_before);
  // 4. The sums of the four strips, in a fixed order.
#pragma unroll
  for (int j = 0; j <= Taps; ++j) {
    float sum[2];
#pragma unroll
    for (int v = 0; v < 2; ++v) {
      sum[v] = scale * sums[j][v];
      sum[v] += __shfl_xor_sync(~0u, sum[v], 1);
      sum[v] += __shfl_xor_sync(~0u, sum[v], 2);
    }
    if (t == 0)
      *reinterpret_cast<float2*>(args.parts + (part * (Taps + 1) + j) * args.channels + channel) =
          make_float2(sum[0], sum[1]);
  }
#endif
}

}  // namespace causeway::cuda::product_strips
