#pragma once

#include <cstdint>

#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/warpgroup_product.cuh"

namespace causeway::cuda::product_strips {

constexpr int Taps = 4;
constexpr int groups = 2, group_threads = 256, block_threads = groups * group_threads, block_channels = 128;
constexpr int strips = 4;                          ///< of a group: one for each lane of four
constexpr int stage_rows = 8;                      ///< tokens of a strip that a stage computes
constexpr int stage_tokens = strips * stage_rows;  ///< columns of a stage's product
constexpr int most_stages = 128;
constexpr int row_bytes = block_channels * 2;
constexpr int strip_bytes = stage_rows * row_bytes + 32;  ///< 32: the four strips are in different banks
constexpr int tile_bytes = strips * strip_bytes;          ///< a stage's x, d_y or d_x
constexpr int b_stride = block_channels * 16;             ///< k_stride of b in shared memory
constexpr int a_stride = stage_tokens * 16 + 32;          ///< of a; 32: neighbours along k are in different banks

__device__ inline void copy_16_bytes_async(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void arrive_expecting(SharedBarrier& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(&barrier.word)), "r"(bytes)
               : "memory");
}
__device__ inline void bulk_load(unsigned to, const void* from, int bytes, SharedBarrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier.word))
               : "memory");
}
__device__ inline void bulk_store(void* to, unsigned from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes)
               : "memory");
}
__device__ inline void commit_bulk_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ inline void wait_for_bulk_stores_to_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

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

template <int eights, int slots>
struct GroupMemory {
  alignas(128) unsigned char a[2][eights * a_stride];
  alignas(128) unsigned char queue[slots][2][tile_bytes];
  alignas(128) unsigned char d_x[2][tile_bytes];
  unsigned starts[strips][most_stages / 4];  ///< bit k: token k of the strip is the first of its document
  int in_document[strips];
};
template <int eights, int slots>
struct BlockMemory {
  alignas(128) unsigned char b[eights * b_stride];
  GroupMemory<eights, slots> group[groups];
};

/// Step i of channel v in a stage's product, as a lane holds it.
__device__ constexpr int at(int i, int v) { return i / 2 * 4 + v * 2 + i % 2; }

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

  // 1. Start to copy the first stages. A thread copies 16 bytes of two rows of x, of d_y, and of d_x.
  const int copy_strip = thread / 128;
  const std::int64_t copy_token = group_begin + copy_strip * S + thread / 16 % 8, copy_channel = block_channel + thread % 16 * 8;
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
    commit_async_copies();
  };
  const auto store_rows = [&](int which) {
    const unsigned char* const from = &shared.d_x[which][0] + copy_in;
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
    commit_async_copies();
  };
  load_rows(0);
  copy_a(0);
  if constexpr (slots > 2) load_rows(1);
  for (int i = args.eights * (a_stride / 16) + thread; i < eights * (a_stride / 16); i += group_threads)
    for (int slot = 0; slot < 2; ++slot) reinterpret_cast<uint4*>(shared.a[slot])[i] = make_uint4(0, 0, 0, 0);

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
  for (int stage = 0, slot = 0; stage < stages; ++stage) {
    if constexpr (slots > 2)
      wait_for_async_copies<1>();
    else
      wait_for_async_copies<0>();
    fence_shared_memory_for_wgmma();
    wait_at_barrier<group_threads>(1 + group);
    const int free = slot == 0 ? slots - 1 : slot - 1;
    const unsigned char* const tile = &shared.queue[slot][0][0] + own;
    unsigned char* const out = &shared.d_x[stage % 2][0] + own;
    slot = slot + 1 == slots ? 0 : slot + 1;
    // 3a. g before the slope: d_y, to which the product is added.
    float c[stage_tokens / 2];
#pragma unroll
    for (int i = 0; i < stage_rows; ++i) {
      const auto pair = *reinterpret_cast<const std::uint32_t*>(tile + tile_bytes + i * row_bytes);
      c[at(i, 0)] = low_bf16(pair);
      c[at(i, 1)] = high_bf16(pair);
    }
    wgmma_fence();
    const std::uint64_t a_operand = wgmma_operand(shared_address(shared.a[stage % 2]), a_stride);
#pragma unroll
    for (int e = 0; e < eights; e += 2)
      wgmma_64x32x16(c, b_operand + e * (b_stride >> 4), a_operand + e * (a_stride >> 4));
    wgmma_commit();
    // Meanwhile: the rows of the stage before, and the copies that take the place of what it has read.
    if (stage > 0) store_rows((stage - 1) % 2);
    copy_a((stage + 1) % 2);
    load_rows(free);
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
          *reinterpret_cast<std::uint32_t*>(out + row * row_bytes) = pack_bf16(d_x[Taps - 1][0], d_x[Taps - 1][1]);
        }
      };
      const bool whole = first + 4 <= count && reach + 1 >= Taps && (starts >> half * 4 & 15) == 0;
      if (__all_sync(~0u, whole)) {
        compute.template operator()<true>();
        reach = Taps;
      } else {
        compute.template operator()<false>();
      }
    }
  }
  wait_at_barrier<group_threads>(1 + group);
  store_rows((stages - 1) % 2);
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
