#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/scan_direction.hpp"
#include "kernels/cpu/channel_tiles.hpp"
#include "kernels/expect.hpp"
#include "kernels/selective_scan.hpp"

/// How the scan is divided on a CPU. Lanes are channels: a tile is one vector of channels, and its state is N vectors.
/// Tokens are processed in blocks of selective_scan_block: all that a tile needs of a block is converted once to the
/// accumulator type R and stays in the L1 cache. Then the states n are scanned over the block one after the other, each
/// with its h in a register. A thread takes a group of tiles, and processes all tiles of the group before the next
/// block, so that adjacent channels are read shortly after each other. Groups depend only on the number of channels,
/// never on the number of threads.
namespace causeway::cpu {

inline constexpr std::int64_t scan_block = selective_scan_block;

/// One value for each token of a block and channel of a tile.
template <class R>
struct Panel {
  Vector<R> at[scan_block];
};

/// Tokens [begin, begin + count) of a run. Bit i of `starts` is set if token begin + i is the first of its document.
/// The next block of the scan begins at begin + to_next; 0 means that this block is the last.
struct TokenBlock {
  std::int64_t begin, count, to_next;
  std::uint64_t starts = 0;
  static_assert(scan_block <= 64);

  /// Block b of the rows [first, end), in a scan of this direction.
  TokenBlock(const SegmentsView& segments, std::int64_t first, std::int64_t end, std::int64_t b,
             ScanDirection direction)
      : begin(first + b * scan_block), count(std::min(scan_block, end - begin)) {
    if (direction == ScanDirection::right_to_left)
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

/// Loads a block of a tile, converted to R. Prefetches the same tile of the next block into the L2 cache: rows are too
/// far apart for the hardware prefetcher.
template <class T, class R>
void load(TensorView from, const TokenBlock& block, const Tile& tile, Panel<R>& to) {
  const T* row = from.row<const T>(block.begin) + tile.first;
  const std::int64_t next_block = block.to_next * from.row_stride;
  for (std::int64_t i = 0; i < block.count; ++i, row += from.row_stride) {
    to.at[i] = load_lanes<R>(row, tile.width);
    if (next_block != 0) __builtin_prefetch(row + next_block, 0, 2);
  }
}

/// The reverse of load, without prefetching.
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

/// Scratch vectors that each tile keeps from block to block, zero at first.
template <class R>
class TileScratch {
 public:
  /// A tile gets `arrays` arrays of N vectors and `singles` single vectors.
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

/// In place: delta becomes Δ.
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

/// ds = d_y·silu(z), and z; or ds = d_y if the gate is absent.
template <class T, class R>
void load_gated(TensorView d_y, TensorView gate, const TokenBlock& block, const Tile& tile, Panel<R>& z, Panel<R>& ds) {
  load<T>(d_y, block, tile, ds);
  if (!gate.present()) return;
  load<T>(gate, block, tile, z);
  for (std::int64_t i = 0; i < block.count; ++i) ds.at[i] *= lanewise<R>(z.at[i], silu<R>);
}

/// Checks shapes and dtypes of the inputs.
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
