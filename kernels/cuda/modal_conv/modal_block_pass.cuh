#pragma once

#include "kernels/cuda/modal_conv/modal_block_slots.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_backward.cuh"

/// hyena_block with 16 modes in the pass from right to left: it reads q, k and v before the featurizer and d_y, and
/// writes all gradients. f_q and the gradients of f_q, f_k and f_v are rounded to bf16.
namespace causeway::cuda::modal_mma {

/// What the pass from right to left leaves of a channel, zero before: sums of d_featurizer [3 inputs][8: lane / 4][4:
/// lag]; d_f of the first two tokens [3 inputs], zero beyond the end of a document there; of the last two tokens.
inline constexpr int edge_first = 96, edge_last = 99, edge_of_channel = 104;

/// q, k and v of the pass from right to left, before the featurizer. Features are made where they are needed.
struct BlockOperands : GatedOperands {
  static constexpr bool makes_q = true;
  struct Args {
    BackwardArgs run;
    TensorMap d_q;
    BlockRows in;
    float* edges;  ///< [ranges, channels of whole columns, edge_of_channel]
  };
  struct Memory {
    BackwardMemory run;
    FeatureMemory features;
    std::uint32_t next[block_channels][3];  ///< d_f of the first two tokens of the unit to the right, as in BlockEdges
    SharedBarrier full_d[2], full_v;        ///< of d_y and v; run.full_qd is of q, run.full_kv of k
  };
  static_assert(sizeof(Memory) <= 232448);
  const Args& args;
  Memory& all;
  int column, warp, lane, pass = 0;
  float* edges_at;  ///< of the warp's first channel, lane / 4

  __device__ static const BackwardArgs& run_of(const Args& args) { return args.run; }
  __device__ static void initialize_barriers(Memory& memory) {
    memory.full_d[0].initialize(2);
    memory.full_d[1].initialize(2);
    memory.run.full_qd.initialize(1);
    memory.run.full_kv.initialize(1);
    memory.full_v.initialize(1);
  }
  __device__ static void set_up(const Args& args, Memory& memory, int column, int unit, int warp, int lane) {
    memory.features.load_weights(args.in, column);
    for (int i = static_cast<int>(threadIdx.x); i < 3 * block_channels; i += block_threads)
      memory.next[i / 3][i % 3] = 0;
    if (warp < computing_warps)
      memory.features.fetch_rows(args.in, unit, 0, column * block_channels + warp * warp_channels, warp, lane);
  }
  /// The mover. d_y is empty as soon as the last channels' d_f_q is computed (barrier 1); q, k and v are replaced by
  /// their gradients (barriers 2, 3 and 4), q before k and v. Meanwhile the next unit comes to the L2 cache, not
  /// earlier, for it would be evicted. For a summary q and d_y have two slots each.
  template <bool Summary>
  __device__ static void move(const Args& args, Memory& memory, int column, int begin, int end, int lane) {
    const BackwardArgs& run = args.run;
    const int from = column * block_channels;
    StartReader starts(run.documents);
    const auto fill = [&](const TensorMap& map, unsigned char* to, SharedBarrier& full, int unit) {
      if (unit < begin || lane != 0) return;
      arrive_expecting(full, tensor_bytes);
      load_box(to, map, from, unit * unit_tokens, full);
    };
    const auto fill_d = [&](int unit) {
      const int slot = Summary ? (end - 1 - unit) % 2 : 0;
      fill(run.d_y, slot == 0 ? memory.run.qd[1] : memory.run.kv[1], memory.full_d[slot], unit);
      if (unit < begin) return;
      starts.seek(std::int64_t{unit} * unit_tokens, lane);
      read_starts(starts, std::int64_t{unit} * unit_tokens, memory.run.starts[(end - 1 - unit) % 2], lane);
      memory.full_d[slot].arrive_as_warp();
    };
    if constexpr (Summary) {
      const auto fill_both = [&](int unit) {
        fill_d(unit);
        const int slot = (end - 1 - unit) % 2;
        fill(run.q, memory.run.qd[0] + slot * 2 * tensor_bytes, slot == 0 ? memory.run.full_qd : memory.run.full_kv,
             unit);
      };
      fill_both(end - 1);
      fill_both(end - 2);
#pragma unroll 1
      for (int unit = end - 1; unit >= begin; --unit) {
        wait_at_barrier<meeting_threads>(1 + (end - 1 - unit) % 2);
        fill_both(unit - 2);
      }
      return;
    }
    const auto replace = [&](const TensorMap& from_map, const TensorMap& to_map, unsigned char* at, SharedBarrier& full,
                             int unit) {
      if (lane == 0) {
        store_box(to_map, at, from, unit * unit_tokens);
        commit_box_stores();
        wait_for_box_reads<0>();
      }
      __syncwarp();
      fill(from_map, at, full, unit - 1);
    };
    fill_d(end - 1);
    fill(run.q, memory.run.qd[0], memory.run.full_qd, end - 1);
    fill(run.k, memory.run.kv[0], memory.run.full_kv, end - 1);
    fill(run.v, memory.run.kv[1], memory.full_v, end - 1);
#pragma unroll 1
    for (int unit = end - 1; unit >= begin; --unit) {
      wait_at_barrier<meeting_threads>(1);
      if (lane == 0 && unit > begin)
        for (const TensorMap* map : {&run.q, &run.k, &run.v}) prefetch_box(*map, from, (unit - 1) * unit_tokens);
      fill_d(unit - 1);
      wait_at_barrier<meeting_threads>(2);
      replace(run.q, args.d_q, memory.run.qd[0], memory.run.full_qd, unit);
      wait_at_barrier<meeting_threads>(3);
      replace(run.k, run.d_k, memory.run.kv[0], memory.run.full_kv, unit);
      wait_at_barrier<meeting_threads>(4);
      replace(run.v, run.d_v, memory.run.kv[1], memory.full_v, unit);
    }
    if (lane == 0) wait_for_box_stores();
  }
  __device__ BlockOperands(const Args& args_, Memory& memory_, int column_, int range, int warp_, const LaneAddress& at)
      : GatedOperands(args_.run, reinterpret_cast<GatedOperands::Memory&>(memory_.run), column_, range, warp_, at),
        args(args_),
        all(memory_),
        column(column_),
        warp(warp_),
        lane(static_cast<int>(threadIdx.x) % 32),
        edges_at(args_.edges +
                 (std::int64_t{range * args_.run.plan.columns + column} * block_channels + warp * warp_channels) *
                     edge_of_channel +
                 lane / 4 * 4) {}
  __device__ int channel() const { return column * block_channels + warp * warp_channels; }
  __device__ void begin_unit(int unit, int i, int begin) {
    GatedOperands::begin_unit(unit, i, begin);
    pass = i;
    wait_for_async_copies<0>();
    __syncwarp();
    if (unit > begin) all.features.fetch_rows(args.in, unit - 1, 1 - i % 2, channel(), warp, lane);
  }
  template <bool Summary>
  __device__ void prepare() {
    const int slot = Summary ? pass % 2 : 0;
    if constexpr (Summary) {
      qd_at = shared_address(memory.qd[0]) + static_cast<unsigned>(slot) * 2 * tensor_bytes;
      phase = static_cast<unsigned>(pass / 2) & 1;
    }
    all.full_d[slot].wait(phase);
    pieces.from_rows<true>(qd_at + tensor_bytes);
    (slot == 0 ? memory.full_qd : memory.full_kv).wait(phase);
    pieces.from_rows<true>(qd_at);
  }
  __device__ void prepare_kv() const {
    memory.full_kv.wait(phase);
    pieces.from_rows<false>(kv_at);
    all.full_v.wait(phase);
    pieces.from_rows<false>(kv_at + tensor_bytes);
  }
  __device__ unsigned tensor(int input) const {
    return input == 0 ? qd_at : kv_at + static_cast<unsigned>(input - 1) * tensor_bytes;
  }
  __device__ void load_words(std::uint32_t (&to)[2][4], unsigned from, int pair) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const uint4 x = pieces.load(from, 2 * pair + c);
      to[c][0] = x.x, to[c][1] = x.y, to[c][2] = x.z, to[c][3] = x.w;
    }
  }
  __device__ void load_weights(uint2 (&to)[2], int input, int pair) const {
#pragma unroll
    for (int c = 0; c < 2; ++c)
      to[c] = load_shared_8(shared_address(&all.features.weights[warp * warp_channels + 2 * pair + c][input]));
  }
  /// f of an input, not rounded, by its slots: q's are places.
  template <int Input, int Starts>
  __device__ void featurize(float (&f)[2][2][4], int pair, const UnitDocuments<Starts>& documents) const {
    constexpr bool places = Input == 0;
    const SlotProduct<places, false> by(lane);
    std::uint32_t x[2][4], edge[2], out[2];
    uint2 weights[2];
    load_words(x, tensor(Input), pair);
    load_weights(weights, Input, pair);
    const bool starts = (documents.starts->words[0] >> 15 & 1) != 0;  // a document begins with the token before
    const auto row = [&](int n) {
      return load_word(shared_address(&all.features.rows[pass % 2][Input][n][warp]) + static_cast<unsigned>(4 * pair));
    };
    const std::uint32_t near = row(1), far = starts ? 0u : row(0);
#pragma unroll
    for (int c = 0; c < 2; ++c)
      edge[c] = __byte_perm(places ? near : far, places ? far : near, c == 0 ? 0x5410 : 0x7632);
    multiply_slots(f, out, x, edge, by, weights, documents);
  }
  template <int Starts>
  __device__ void load_dc(TwoParts (&dc)[2], int pair, const UnitDocuments<Starts>& documents) const {
    float f[2][2][4];
    featurize<0>(f, pair, documents);
#pragma unroll
    for (int c = 0; c < 2; ++c)
      exact_products(dc[c], {packed(f[c], 0), packed(f[c], 1), packed(f[c], 2), packed(f[c], 3)},
                     pieces.load(qd_at + tensor_bytes, 2 * pair + c));
  }
  template <bool Summary>
  __device__ void release_dc() const {
    if constexpr (Summary) pass_to_mover(1 + pass % 2);
  }
  template <int Starts>
  __device__ void multiply_kv(TwoParts (&x)[2], int pair, const UnitDocuments<Starts>& documents) const {
    float k[2][2][4], v[2][2][4];
    featurize<1>(k, pair, documents);
    featurize<2>(v, pair, documents);
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int h = n / 2, e = n % 2 * 2;
        split_pair(k[c][h][e] * v[c][h][e], k[c][h][e + 1] * v[c][h][e + 1], x[c].high[n], x[c].low[n]);
      }
  }
  /// d_q. y: h ∗ x by places.
  template <int Starts>
  __device__ void replace_q(const float (&y)[2][2][4], int pair, const UnitDocuments<Starts>& documents) const {
    std::uint32_t d[2][4];
#pragma unroll
    for (int c = 0; c < 2; ++c) times(d[c], y[c], pieces.load(qd_at + tensor_bytes, 2 * pair + c));
    if (pair == 3) pass_to_mover(1);
    float sums[1][2][3];
    finish<0>(sums[0], d, pair, documents);
    add_taps(sums, 0, pair);
    if (pair == 3) {
      pieces.to_rows<true>(qd_at);
      pass_to_mover(2);
    }
  }
  template <int Starts>
  __device__ void replace_kv(const float (&d_x)[2][2][4], int pair, const UnitDocuments<Starts>& documents) const {
    float k[2][2][4], v[2][2][4];
    featurize<1>(k, pair, documents);
    featurize<2>(v, pair, documents);
    std::uint32_t d_k[2][4], d_v[2][4];
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int h = n / 2, e = n % 2 * 2;
        d_k[c][n] = pack_bf16(d_x[c][h][e] * v[c][h][e], d_x[c][h][e + 1] * v[c][h][e + 1]);
        d_v[c][n] = pack_bf16(d_x[c][h][e] * k[c][h][e], d_x[c][h][e + 1] * k[c][h][e + 1]);
      }
    float sums[2][2][3];
    finish<1>(sums[0], d_k, pair, documents);
    finish<2>(sums[1], d_v, pair, documents);
    add_taps(sums, 1, pair);
  }
  /// Adds to the sums of d_featurizer, of inputs from `first`.
  template <int Inputs>
  __device__ void add_taps(const float (&sums)[Inputs][2][3], int first, int pair) const {
    if (lane % 4 != lane / 8) return;
#pragma unroll
    for (int n = 0; n < Inputs; ++n)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        add_to_4(edges_at + (2 * pair + c) * edge_of_channel + (first + n) * 32, sums[n][c][0], sums[n][c][1],
                 sums[n][c][2], 0);
  }
  /// The featurizer's adjoint: d is d_f of an input, whose place its gradient takes; and the sums of d_featurizer.
  template <int Input, int Starts>
  __device__ void finish(float (&sums)[2][3], const std::uint32_t (&d)[2][4], int pair,
                         const UnitDocuments<Starts>& documents) const {
    constexpr bool places = Input == 0;
    const SlotProduct<places, true> by(lane);
    const int local = warp * warp_channels + 2 * pair;
    std::uint32_t edge[2], out[2], x[2][4];
    uint2 weights[2];
    float to[2][2][4];
    load_words(x, tensor(Input), pair);
    load_weights(weights, Input, pair);
#pragma unroll
    for (int c = 0; c < 2; ++c) edge[c] = load_word(shared_address(&all.next[local + c][Input]));
    multiply_slots(to, out, d, edge, by, weights, documents);
    __syncwarp();
    // What the units beside need.
    const unsigned starts = documents.starts->words[0] >> 16;
    const std::uint32_t kept = (starts & 1) != 0 ? 0u : (starts & 2) == 0 ? ~0u : places ? 0xffff0000u : 0xffffu;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      store_shared_if(lane == (places ? 3 : 0), shared_address(&all.next[local + c][Input]),
                      d[c][places ? 2 : 0] & kept);
      store_if(pass == 0 && lane == (places ? 28 : 31),
               edges_at + (2 * pair + c) * edge_of_channel + edge_last + Input - 28, d[c][places ? 1 : 3]);
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      std::uint32_t one[4], two[4];
      by.shift(one, two, d[c], out[c]);
      if constexpr (Starts > 0)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          unsigned reach_one, reach_two;
          documents.template reach<places>(reach_one, reach_two, i, lane);
          one[i] &= reach_one, two[i] &= reach_two;
        }
      multiply_diagonals(sums[c], x[c], d[c], one, two, lane);
      pieces.store(tensor(Input), 2 * pair + c,
                   {packed(to[c], 0), packed(to[c], 1), packed(to[c], 2), packed(to[c], 3)});
    }
  }
  __device__ void finish_unit() const {
    pieces.to_rows<false>(kv_at);
    pass_to_mover(3);
    pieces.to_rows<false>(kv_at + tensor_bytes);
    pass_to_mover(4);
  }
  __device__ void finish_range() const {
    if (lane < 3 * warp_channels)
      edges_at[lane / 3 * edge_of_channel + edge_first + lane % 3 - lane / 4 * 4] =
          __uint_as_float(all.next[warp * warp_channels + lane / 3][lane % 3]);
  }

 private:
  /// Word th + 2 half of a product, rounded.
  __device__ static std::uint32_t packed(const float (&f)[2][4], int n) {
    return pack_bf16(f[n / 2][n % 2 * 2], f[n / 2][n % 2 * 2 + 1]);
  }
  __device__ static void times(std::uint32_t (&to)[4], const float (&f)[2][4], uint4 x) {
    const std::uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int n = 0; n < 4; ++n)
      to[n] = pack_bf16(f[n / 2][n % 2 * 2] * low_bf16(words[n]), f[n / 2][n % 2 * 2 + 1] * high_bf16(words[n]));
  }
};

}  // namespace causeway::cuda::modal_mma
