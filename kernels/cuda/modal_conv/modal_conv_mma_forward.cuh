#pragma once

#include "kernels/cuda/modal_conv/modal_conv_mma_tiles.cuh"

/// Shared by the kernels from left to right: memory, the mover, x as operands, documents of tiles.
namespace causeway::cuda::modal_mma {

/// A ring of one stage of k and v, which is empty as soon as x is in registers, and two of q, where y replaces it.
struct ForwardMemory {
  unsigned char kv[2][tensor_bytes], q[2][tensor_bytes];
  ChannelConstants constants[block_channels];
  float carry[block_channels][mode_count];  ///< in order of places
  UnitStarts starts[2];
  SharedBarrier full_kv, full_q[2];
};
static_assert(sizeof(ForwardMemory) <= 232448);

/// x of 8 channels as operands, high and low: register th + 2 half, tokens 2 j + 8 half (+ 1) of tile 2 g + th.
struct ProductOperands {
  std::uint32_t high[warp_channels][4], low[warp_channels][4];
  /// The product of two tensors in shared memory.
  __device__ void load(unsigned a, unsigned b, const LaneAddress& at, const RowOrder& order) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const unsigned offset = static_cast<unsigned>(i % 2 * 2048 + i / 2 * 1024);
      uint4 A[2], B[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        A[e] = load_shared_16(a + order.of(at.x, e) + offset);
        B[e] = load_shared_16(b + order.of(at.x, e) + offset);
      }
      const auto pair = [&](int p, std::uint32_t a0, std::uint32_t b0, std::uint32_t a1, std::uint32_t b1) {
        std::uint32_t h0, l0, h1, l1;
        exact_product(a0, b0, h0, l0);
        exact_product(a1, b1, h1, l1);
        high[2 * p][i] = __byte_perm(h0, h1, order.low);
        high[2 * p + 1][i] = __byte_perm(h0, h1, order.high);
        low[2 * p][i] = __byte_perm(l0, l1, order.low);
        low[2 * p + 1][i] = __byte_perm(l0, l1, order.high);
      };
      pair(0, A[0].x, B[0].x, A[1].x, B[1].x);
      pair(1, A[0].y, B[0].y, A[1].y, B[1].y);
      pair(2, A[0].z, B[0].z, A[1].z, B[1].z);
      pair(3, A[0].w, B[0].w, A[1].w, B[1].w);
    }
  }
  /// Makes channel c that of channel c + 2, for a loop that is not unrolled.
  __device__ void shift() {
#pragma unroll
    for (int c = 0; c + 2 < warp_channels; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) high[c][i] = high[c + 2][i], low[c][i] = low[c + 2][i];
  }
};

/// A lane's tokens among the documents of their tiles: 0 for the document that began before the tile. Bytes: token
/// 2 half + e of tile 2 g + th.
struct LaneOrdinals {
  unsigned x[2], place[2];
  unsigned before[4], last[4];  ///< masks of ProductOperands: the tile's first document, and its last one
  __device__ LaneOrdinals(const UnitStarts& starts, int lane) {
    if (starts.tiles == 0) {
#pragma unroll
      for (int i = 0; i < 4; ++i) before[i] = last[i] = ~0u;
      x[0] = x[1] = place[0] = place[1] = 0;
      return;
    }
    const int g = lane / 4, j = lane % 4;
#pragma unroll
    for (int th = 0; th < 2; ++th) {
      const unsigned word = starts.words[2 * g + th] >> 16;
      x[th] = place[th] = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = 2 * j + 8 * (i / 2) + i % 2;
        x[th] |= static_cast<unsigned>(__popc(word & ((2u << token) - 1))) << 8 * i;
        place[th] |= static_cast<unsigned>(__popc(word & ((2u << (15 - token)) - 1))) << 8 * i;
      }
      const unsigned total = static_cast<unsigned>(__popc(word));
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        before[th + 2 * h] = mask(th, h, 0);
        last[th + 2 * h] = mask(th, h, total);
      }
    }
  }
  __device__ unsigned mask(int th, int half, unsigned ordinal) const {
    const unsigned two = x[th] >> 16 * half;
    return ((two & 0xff) == ordinal ? 0xffffu : 0u) | ((two >> 8 & 0xff) == ordinal ? 0xffff0000u : 0u);
  }
};

/// h ∗ x of the documents that begin in a tile, 1 to `most`, for a pair of channels: a product over operands that are
/// masked replaces their places of y. x_high, x_low: the parts of x of both channels.
__device__ __forceinline__ void multiply_new_documents(float (&y)[2][2][4], const std::uint32_t (*x_high)[4],
                                                       const std::uint32_t (*x_low)[4],
                                                       const ChannelConstants* constants, const LaneOrdinals& ordinals,
                                                       unsigned most, int lane) {
#pragma unroll 1
  for (unsigned ordinal = 1; ordinal <= most; ++ordinal) {
    unsigned masks[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) masks[n] = ordinals.mask(n % 2, n / 2, ordinal);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      Taps taps;
      taps.load(constants[c], lane);
      std::uint32_t high[4], low[4];
      keep(high, x_high[c], masks);
      keep(low, x_low[c], masks);
      float own[2][4] = {};
      taps.multiply(own, high, low);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        if ((ordinals.place[n % 4 / 2] >> (16 * (n / 4) + 8 * (n % 2)) & 0xff) == ordinal)
          y[c][n / 4][n % 4] = own[n / 4][n % 4];
    }
  }
}

/// The mover of the forward. Per unit: k and v are empty (barrier 1) and are filled again; y is complete (barrier
/// 2 + slot), is stored, and q of two units later takes its place.
template <bool Summary>
__device__ inline void forward_mover(const ForwardArgs& args, ForwardMemory& memory, int column, int begin, int end,
                                     int lane) {
  StartReader starts(args.documents);
  const auto fill_kv = [&](int unit) {
    if (unit >= end) return;
    if (lane == 0) {
      arrive_expecting(memory.full_kv, 2 * tensor_bytes);
      load_box(memory.kv[0], args.k, column * block_channels, unit * unit_tokens, memory.full_kv);
      load_box(memory.kv[1], args.v, column * block_channels, unit * unit_tokens, memory.full_kv);
    }
    // Meanwhile the starts; then the barrier's second arrival.
    if (unit == begin) starts.seek(std::int64_t{unit} * unit_tokens, lane);
    read_starts(starts, std::int64_t{unit} * unit_tokens, memory.starts[(unit - begin) % 2], lane);
    memory.full_kv.arrive_as_warp();
  };
  const auto fill_q = [&](int unit) {
    if (Summary || unit >= end || lane != 0) return;
    const int slot = (unit - begin) % 2;
    arrive_expecting(memory.full_q[slot], tensor_bytes);
    load_box(memory.q[slot], args.q, column * block_channels, unit * unit_tokens, memory.full_q[slot]);
  };
  fill_kv(begin);
  fill_q(begin);
  fill_q(begin + 1);
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    wait_at_barrier<meeting_threads>(1);
    fill_kv(unit + 1);
    if constexpr (!Summary) {
      const int slot = (unit - begin) % 2;
      wait_at_barrier<meeting_threads>(2 + slot);
      if (lane == 0) {
        store_box(args.y, memory.q[slot], column * block_channels, unit * unit_tokens);
        commit_box_stores();
        wait_for_box_reads<0>();
      }
      __syncwarp();
      fill_q(unit + 2);
    }
  }
  if (!Summary && lane == 0) wait_for_box_stores();
}

/// The unit that a part's sum begins with: that of its last document's start.
__device__ inline int first_unit(const SegmentsView& documents, int begin, int end, int lane, bool& has_start) {
  const std::int64_t index =
      warp_upper_bound(documents.cu_seqlens, documents.count + 1, std::int64_t{end} * unit_tokens - 1, lane);
  const std::int64_t last = index > 0 ? documents.cu_seqlens[index - 1] : -1;
  has_start = last >= std::int64_t{begin} * unit_tokens;
  return has_start ? static_cast<int>(last / unit_tokens) : begin;
}

struct UnitRange {
  int begin, end;
};
/// Barriers, constants and the states that enter a range, by all threads of a block, which must meet afterwards.
/// Returns the units of the range, or of its part that counts for a sum.
template <bool Summary>
__device__ inline UnitRange set_up_forward(const ForwardArgs& args, ForwardMemory& memory, int column, int range,
                                           int lane) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    memory.full_kv.initialize(2);
    memory.full_q[0].initialize(1);
    memory.full_q[1].initialize(1);
    fence_barrier_initialization();
  }
  int begin = Summary ? args.plan.part_begin(range) : args.plan.begin(range);
  const int end = Summary ? args.plan.part_begin(range + 1) : args.plan.begin(range + 1);
  if constexpr (Summary) {
    bool has_start;
    begin = first_unit(args.documents, begin, end, lane, has_start);
    if (column == 0 && thread == 0) args.part_starts[range] = has_start;
  }
  copy_constants(memory.constants, args.constants + column * block_channels);
  for (int i = thread; i < block_channels * mode_count; i += block_threads) {
    const int c = i / mode_count, p = i % mode_count;
    memory.carry[c][p] = Summary ? 0.0f : entering_state(args, range, column * block_channels + c, mode_at(p));
  }
  return {begin, end};
}

/// The states after a part, or after the run if this is its end. `channel`: the warp's first, within D.
template <bool Summary>
__device__ inline void write_last_state(const ForwardArgs& args, const ForwardMemory& memory, std::int64_t channel,
                                        int first_channel, int part, int end, int lane) {
  channel += lane / 4;
  if (channel >= args.filter.channels) return;
  if (!Summary && (args.state_out.data == nullptr || end != args.plan.units)) return;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int m = mode_at(lane % 4 * 4 + e);
    const float s = memory.carry[first_channel + lane / 4][lane % 4 * 4 + e];
    if constexpr (Summary)
      args.parts[(part * args.filter.channels + channel) * mode_count + m] = s;
    else
      args.state_out(channel, m) = s;
  }
}

}  // namespace causeway::cuda::modal_mma
