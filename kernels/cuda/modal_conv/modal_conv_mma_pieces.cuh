#pragma once

#include "kernels/cuda/modal_conv/modal_conv_mma_gradients.cuh"

/// Operands of the pass from right to left, in pieces of shared memory.
namespace causeway::cuda::modal_mma {

struct BackwardMemory {
  unsigned char qd[2][tensor_bytes], kv[2][tensor_bytes];
  ChannelConstants constants[block_channels];
  float carry[block_channels][mode_count];  ///< in order of places
  UnitStarts starts[2];
  SharedBarrier full_qd, full_kv;
};
static_assert(sizeof(BackwardMemory) <= 232448);

/// A unit's tensors of a warp's channels in shared memory as operands: piece c of a lane, 16 bytes, has the pairs of
/// tokens of channel c, word th + 2 half. The pieces of 8 lanes lie in all banks.
struct Pieces {
  RowOrder order;
  unsigned x[2], place[2], piece;  ///< rows as in LaneAddress, in this order

  __device__ Pieces(const LaneAddress& at, int warp, int lane)
      : order(lane), piece(static_cast<unsigned>(lane * 128 + (warp ^ lane % 8) * 16)) {
#pragma unroll
    for (int e = 0; e < 2; ++e) x[e] = order.of(at.x, e), place[e] = order.of(at.place, e);
  }
  __device__ uint4 load(unsigned tensor, int channel) const {
    return load_shared_16(tensor + piece + static_cast<unsigned>(channel * 4096));
  }
  __device__ void store(unsigned tensor, int channel, uint4 x) const {
    store_shared_16(tensor + piece + static_cast<unsigned>(channel * 4096), x);
  }
  /// Where a lane's first or second row is, of a half tile.
  template <bool Places>
  __device__ unsigned row(unsigned tensor, int n, int e) const {
    return Places ? tensor + place[e] + static_cast<unsigned>(n % 2 * 2048) - static_cast<unsigned>(n / 2 * 1024)
                  : tensor + x[e] + static_cast<unsigned>(n % 2 * 2048 + n / 2 * 1024);
  }
  /// Rows as pairs of tokens or places.
  template <bool Places, int Stride>
  __device__ void pairs(std::uint32_t (&to)[warp_channels][Stride], unsigned tensor) const {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const uint4 a = load_shared_16(row<Places>(tensor, n, 0)), b = load_shared_16(row<Places>(tensor, n, 1));
      split_rows(to, n, a, b);
    }
  }
  template <int Stride>
  __device__ void split_rows(std::uint32_t (&to)[warp_channels][Stride], int n, uint4 a, uint4 b) const {
    const std::uint32_t A[4] = {a.x, a.y, a.z, a.w}, B[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      to[2 * p][n] = __byte_perm(A[p], B[p], order.low);
      to[2 * p + 1][n] = __byte_perm(A[p], B[p], order.high);
    }
  }
  /// In place of a tensor, whose rows all lanes must have read.
  template <int Stride>
  __device__ void store_all(unsigned tensor, const std::uint32_t (&x)[warp_channels][Stride]) const {
#pragma unroll
    for (int c = 0; c < warp_channels; ++c) store(tensor, c, {x[c][0], x[c][1], x[c][2], x[c][3]});
  }
  /// Rows become pieces.
  template <bool Places>
  __device__ void from_rows(unsigned tensor) const {
    std::uint32_t x[warp_channels][4];
    pairs<Places>(x, tensor);
    __syncwarp();
    store_all(tensor, x);
  }
  /// The pieces become rows again.
  template <bool Places>
  __device__ void to_rows(unsigned tensor) const {
    uint4 x[warp_channels];
#pragma unroll
    for (int c = 0; c < warp_channels; ++c) x[c] = load(tensor, c);
    __syncwarp();
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const auto word = [&](int c) { return n == 0 ? x[c].x : n == 1 ? x[c].y : n == 2 ? x[c].z : x[c].w; };
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const unsigned select = (e ^ order.odd) == 0 ? 0x5410 : 0x7632;
        store_shared_16(row<Places>(tensor, n, e),
                        {__byte_perm(word(0), word(1), select), __byte_perm(word(2), word(3), select),
                         __byte_perm(word(4), word(5), select), __byte_perm(word(6), word(7), select)});
      }
    }
  }
};
__device__ inline void exact_products(TwoParts& to, uint4 a, uint4 b) {
  exact_product(a.x, b.x, to.high[0], to.low[0]);
  exact_product(a.y, b.y, to.high[1], to.low[1]);
  exact_product(a.z, b.z, to.high[2], to.low[2]);
  exact_product(a.w, b.w, to.high[3], to.low[3]);
}

/// Makes what a warp wrote visible to bulk copies, and tells the mover.
__device__ inline void pass_to_mover(int barrier) {
  fence_bulk_copies();
  __syncwarp();
  arrive_at_barrier<meeting_threads>(barrier);
}

/// q, k and v as they are.
struct GatedOperands {
  static constexpr bool makes_q = false;  ///< whether the pass makes d_q too
  using Args = BackwardArgs;
  struct Memory {
    BackwardMemory run;
  };
  BackwardMemory& memory;
  Pieces pieces;
  unsigned qd_at, kv_at, phase = 0;

  __device__ static const BackwardArgs& run_of(const Args& args) { return args; }
  __device__ static void initialize_barriers(Memory& memory) {
    memory.run.full_qd.initialize(2);
    memory.run.full_kv.initialize(1);
  }
  __device__ static void set_up(const Args&, Memory&, int, int, int, int) {}
  /// The mover. q and d_y are empty before the last channels are computed (barrier 1); d_k and d_v replace k and v
  /// (barrier 2).
  template <bool Summary>
  __device__ static void move(const BackwardArgs& args, Memory& all_memory, int column, int begin, int end, int lane) {
    BackwardMemory& memory = all_memory.run;
    StartReader starts(args.documents);
    const auto fill_qd = [&](int unit) {
      if (unit < begin) return;
      if (lane == 0) {
        arrive_expecting(memory.full_qd, 2 * tensor_bytes);
        load_box(memory.qd[0], args.q, column * block_channels, unit * unit_tokens, memory.full_qd);
        load_box(memory.qd[1], args.d_y, column * block_channels, unit * unit_tokens, memory.full_qd);
      }
      starts.seek(std::int64_t{unit} * unit_tokens, lane);
      read_starts(starts, std::int64_t{unit} * unit_tokens, memory.starts[(end - 1 - unit) % 2], lane);
      memory.full_qd.arrive_as_warp();
    };
    const auto fill_kv = [&](int unit) {
      if (Summary || unit < begin || lane != 0) return;
      arrive_expecting(memory.full_kv, 2 * tensor_bytes);
      load_box(memory.kv[0], args.k, column * block_channels, unit * unit_tokens, memory.full_kv);
      load_box(memory.kv[1], args.v, column * block_channels, unit * unit_tokens, memory.full_kv);
    };
    fill_qd(end - 1);
    fill_kv(end - 1);
#pragma unroll 1
    for (int unit = end - 1; unit >= begin; --unit) {
      wait_at_barrier<meeting_threads>(1);
      fill_qd(unit - 1);
      if constexpr (!Summary) {
        wait_at_barrier<meeting_threads>(2);
        if (lane == 0) {
          store_box(args.d_k, memory.kv[0], column * block_channels, unit * unit_tokens);
          store_box(args.d_v, memory.kv[1], column * block_channels, unit * unit_tokens);
          commit_box_stores();
          wait_for_box_reads<0>();
        }
        __syncwarp();
        fill_kv(unit - 1);
      }
    }
    if (!Summary && lane == 0) wait_for_box_stores();
  }
  __device__ GatedOperands(const Args&, Memory& memory_, int, int, int warp, const LaneAddress& at)
      : memory(memory_.run),
        pieces(at, warp, static_cast<int>(threadIdx.x) % 32),
        qd_at(shared_address(memory.qd[0])),
        kv_at(shared_address(memory.kv[0])) {}
  __device__ void begin_unit(int, int i, int) { phase = static_cast<unsigned>(i) & 1; }
  template <bool Summary>
  __device__ void prepare() const {
    memory.full_qd.wait(phase);
    pieces.from_rows<true>(qd_at);
    pieces.from_rows<true>(qd_at + tensor_bytes);
  }
  __device__ void prepare_kv() const {
    memory.full_kv.wait(phase);
    pieces.from_rows<false>(kv_at);
    pieces.from_rows<false>(kv_at + tensor_bytes);
  }
  template <int Starts>
  __device__ void load_dc(TwoParts (&dc)[2], int pair, const UnitDocuments<Starts>&) const {
#pragma unroll
    for (int c = 0; c < 2; ++c)
      exact_products(dc[c], pieces.load(qd_at, 2 * pair + c), pieces.load(qd_at + tensor_bytes, 2 * pair + c));
  }
  template <bool Summary>
  __device__ void release_dc() const {
    pass_to_mover(1);
  }
  template <int Starts>
  __device__ void multiply_kv(TwoParts (&x)[2], int pair, const UnitDocuments<Starts>&) const {
#pragma unroll
    for (int c = 0; c < 2; ++c)
      exact_products(x[c], pieces.load(kv_at, 2 * pair + c), pieces.load(kv_at + tensor_bytes, 2 * pair + c));
  }
  /// d_x: [channel][half of tokens][2 th + e].
  template <int Starts>
  __device__ void replace_kv(const float (&d_x)[2][2][4], int pair, const UnitDocuments<Starts>&) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint4 K = pieces.load(kv_at, 2 * pair + c), V = pieces.load(kv_at + tensor_bytes, 2 * pair + c);
      const auto times = [&](int n, std::uint32_t x) {
        return pack_bf16(d_x[c][n / 2][n % 2 * 2] * low_bf16(x), d_x[c][n / 2][n % 2 * 2 + 1] * high_bf16(x));
      };
      pieces.store(kv_at, 2 * pair + c, {times(0, V.x), times(1, V.y), times(2, V.z), times(3, V.w)});
      pieces.store(kv_at + tensor_bytes, 2 * pair + c, {times(0, K.x), times(1, K.y), times(2, K.z), times(3, K.w)});
    }
  }
  __device__ void finish_unit() const {
    pieces.to_rows<false>(kv_at);
    pieces.to_rows<false>(kv_at + tensor_bytes);
    pass_to_mover(2);
  }
  __device__ void finish_range() const {}
};

}  // namespace causeway::cuda::modal_mma
