#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/channel_tile.hpp"
#include "kernels/expect.hpp"
#include "kernels/selective_scan.hpp"

/// How the scan is cut for a CPU. Lanes are channels: a tile is one vector of channels, its state N vectors. Tokens
/// come in blocks of selective_scan_block, so that everything a tile needs of a block, converted to the accumulator
/// type R once, stays in the first-level cache while the states n run over it one after the other, each with its h in a
/// register. A thread takes groups of tiles, and walks over the blocks with all tiles of the group side by side, so
/// that neighbouring channels are read soon after each other. Groups depend on the number of channels alone, never on
/// the number of threads.
namespace causeway::cpu {

inline constexpr std::int64_t scan_block = selective_scan_block;

/// State updates below which a second thread costs more than it brings.
inline constexpr std::int64_t worth_threads = 1 << 14;

/// One value a token of a block and channel of a tile.
template <class R>
struct Panel {
  Vector<R> at[scan_block];
};

/// Tokens [begin, begin + count); bit i of `starts` tells that token begin + i is a document's first. The walk goes on
/// at begin + to_next; 0: it ends.
struct TokenBlock {
  std::int64_t begin, count, to_next;
  std::uint64_t starts = 0;
  static_assert(scan_block <= 64);

  /// Block b of [first, end) in a walk rightwards, or leftwards.
  TokenBlock(const SegmentsView& segments, std::int64_t first, std::int64_t end, std::int64_t b, bool leftwards)
      : begin(first + b * scan_block), count(std::min(scan_block, end - begin)) {
    if (leftwards)
      to_next = b > 0 ? -scan_block : 0;
    else
      to_next = begin + 2 * scan_block <= end ? scan_block : 0;
    const std::int64_t* last = segments.cu_seqlens + segments.count;
    for (auto start = std::lower_bound(segments.cu_seqlens, last, begin); start != last && *start < begin + count;
         ++start)
      starts |= std::uint64_t{1} << (*start - begin);
  }
  bool starts_at(std::int64_t i) const { return (starts >> i) & 1; }
};

/// What a view holds of a block and a tile, converted to R. Fetches the same tile of the block that comes next into the
/// second-level cache: rows stand too far apart for the hardware to guess.
template <class T, class R>
void load(TensorView from, const TokenBlock& block, const Tile& tile, Panel<R>& to) {
  const T* row = from.row<const T>(block.begin) + tile.first;
  const std::int64_t ahead = block.to_next * from.row_stride;
  for (std::int64_t i = 0; i < block.count; ++i, row += from.row_stride) {
    to.at[i] = load_lanes<R>(row, tile.width);
    if (ahead != 0) __builtin_prefetch(row + ahead, 0, 2);
  }
}

template <class T, class R>
void store(const Panel<R>& from, const TokenBlock& block, const Tile& tile, TensorView to) {
  T* row = to.row<T>(block.begin) + tile.first;
  for (std::int64_t i = 0; i < block.count; ++i, row += to.row_stride) store_lanes<R>(from.at[i], row, tile.width);
}

/// A block of B or C, converted to R, as [N][scan_block].
template <class T, class R>
void load_transposed(TensorView from, const TokenBlock& block, R* to) {
  const std::int64_t states = from.columns();
  for (std::int64_t i = 0; i < block.count; ++i) {
    const T* const row = from.row<const T>(block.begin + i);
    for (std::int64_t n = 0; n < states; ++n) to[n * scan_block + i] = static_cast<R>(row[n]);
  }
}

/// N vectors of scratch a tile, all zero at first, and what a tile keeps there while the blocks go by.
template <class R>
class TileScratch {
 public:
  /// `arrays` of N vectors and `singles` of one.
  TileScratch(const Stream& stream, const TileGroups<R>& groups, std::int64_t states, std::int64_t arrays,
              std::int64_t singles)
      : states_(states),
        arrays_(arrays),
        vectors_(arrays * states + singles),
        memory_(Tensor::zeros(stream, dtype_of<R>, {groups.tiles, vectors_, lanes<R>})) {}
  Vector<R>* array(std::int64_t tile, std::int64_t which) const { return at(tile) + which * states_; }
  Vector<R>& single(std::int64_t tile, std::int64_t which) const { return at(tile)[arrays_ * states_ + which]; }

 private:
  Vector<R>* at(std::int64_t tile) const { return static_cast<Vector<R>*>(memory_.view().data) + tile * vectors_; }

  std::int64_t states_, arrays_, vectors_;
  Tensor memory_;
};

/// delta + delta_bias in place becomes Δ.
template <class R>
void step_sizes(const Vector<R>& bias, bool with_softplus, std::int64_t tokens, Panel<R>& delta) {
  for (std::int64_t i = 0; i < tokens; ++i) {
    delta.at[i] += bias;
    if (with_softplus) delta.at[i] = lanewise<R>(delta.at[i], softplus<R>);
  }
}

/// exp(Δ A_n) of a block.
template <class R>
void decays(const Panel<R>& delta, const Vector<R>& A, std::int64_t tokens, Panel<R>& decay) {
  for (std::int64_t i = 0; i < tokens; ++i) decay.at[i] = lanewise<R>(delta.at[i] * A, exponential<R>);
}

/// ds = d_y·silu(z), or d_y without a gate; z is loaded into `z`.
template <class T, class R>
void load_gated(TensorView d_y, TensorView gate, const TokenBlock& block, const Tile& tile, Panel<R>& z, Panel<R>& ds) {
  load<T>(d_y, block, tile, ds);
  if (!gate.present()) return;
  load<T>(gate, block, tile, z);
  for (std::int64_t i = 0; i < block.count; ++i) ds.at[i] *= lanewise<R>(z.at[i], silu<R>);
}

/// Shapes and types of what all of the scan's kernels read.
inline void expect_inputs(const SelectiveScanInputs& in) {
  const DType dtype = in.delta.dtype, accumulator = accumulator_of(dtype);
  const std::int64_t T = in.segments.tokens, D = in.A.rows(), N = in.A.columns();
  expect("A", in.A, accumulator, {D, N});
  expect("delta", in.delta, dtype, {T, D});
  expect_if_present("u", in.u, dtype, {T, D});
  expect_if_present("z", in.z, dtype, {T, D});
  expect_if_present("B", in.B, dtype, {T, N});
  expect_if_present("C", in.C, dtype, {T, N});
  expect_if_present("D", in.D, accumulator, {D});
  expect_if_present("delta_bias", in.delta_bias, accumulator, {D});
}

}  // namespace causeway::cpu
