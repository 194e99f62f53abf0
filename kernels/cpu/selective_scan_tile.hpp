#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/expect.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/selective_scan.hpp"

/// How the scan is cut for a CPU. Lanes are channels: a tile is one vector of channels, its state N vectors. Tokens come in blocks of
/// selective_scan_block, so that everything a tile needs of a block, converted to the accumulator type R once, stays in the
/// first-level cache while the states n run over it one after the other, each with its h in a register.
/// A thread takes groups of tiles; groups depend on the number of channels alone, never on the number of threads.
namespace causeway::cpu {

inline constexpr std::int64_t scan_block = selective_scan_block;

/// State updates below which a second thread costs more than it brings.
inline constexpr std::int64_t worth_threads = 1 << 14;

/// One value a token of a block and channel of a tile.
template <class R>
struct Panel {
  Vector<R> at[scan_block];

  R* flat() { return reinterpret_cast<R*>(at); }
  const R* flat() const { return reinterpret_cast<const R*>(at); }
  static constexpr std::int64_t size = scan_block * lanes<R>;
};

/// Tokens [begin, begin + count); bit i of `starts` tells that token begin + i is a document's first.
struct TokenBlock {
  std::int64_t begin, count;
  std::uint64_t starts;
  static_assert(scan_block <= 64);

  TokenBlock(const SegmentsView& segments, std::int64_t first, std::int64_t end)
      : begin(first), count(std::min(scan_block, end - first)), starts(0) {
    const std::int64_t* last = segments.cu_seqlens + segments.count;
    for (auto start = std::lower_bound(segments.cu_seqlens, last, begin); start != last && *start < begin + count; ++start)
      starts |= std::uint64_t{1} << (*start - begin);
  }
  bool starts_at(std::int64_t i) const { return (starts >> i) & 1; }
};

/// Channels [first, first + width), width <= lanes: the lanes beyond are padding and hold zeros.
struct Tile {
  std::int64_t first, width;
};

/// The tiles of D channels, dealt to at most 16 groups.
template <class R>
struct TileGroups {
  explicit TileGroups(std::int64_t channels_)
      : channels(channels_), tiles((channels_ + lanes<R> - 1) / lanes<R>), count(std::min<std::int64_t>(tiles, 16)) {}
  std::int64_t first_tile(std::int64_t group) const { return group * tiles / count; }
  Tile tile(std::int64_t index) const { return {index * lanes<R>, std::min(lanes<R>, channels - index * lanes<R>)}; }

  std::int64_t channels, tiles, count;
};

/// What a view holds of a block and a tile, converted to R.
template <class T, class R>
void load(TensorView from, const TokenBlock& block, const Tile& tile, Panel<R>& to) {
  for (std::int64_t i = 0; i < block.count; ++i) {
    const T* row = from.row<const T>(block.begin + i) + tile.first;
    R* lane = to.flat() + i * lanes<R>;
    if (tile.width == lanes<R>) {
      for (std::int64_t d = 0; d < lanes<R>; ++d) lane[d] = static_cast<R>(row[d]);
    } else {
      for (std::int64_t d = 0; d < lanes<R>; ++d) lane[d] = d < tile.width ? static_cast<R>(row[d]) : R{0};
    }
  }
}

template <class T, class R>
void store(const Panel<R>& from, const TokenBlock& block, const Tile& tile, TensorView to) {
  for (std::int64_t i = 0; i < block.count; ++i) {
    T* row = to.row<T>(block.begin + i) + tile.first;
    const R* lane = from.flat() + i * lanes<R>;
    if (tile.width == lanes<R>) {
      for (std::int64_t d = 0; d < lanes<R>; ++d) row[d] = static_cast<T>(lane[d]);
    } else {
      for (std::int64_t d = 0; d < tile.width; ++d) row[d] = static_cast<T>(lane[d]);
    }
  }
}

/// Rows of a block of B or C, [count, N], converted to R.
template <class T, class R>
void load_rows(TensorView from, const TokenBlock& block, R* to) {
  for (std::int64_t i = 0; i < block.count; ++i, to += from.columns())
    for (std::int64_t n = 0; n < from.columns(); ++n) to[n] = static_cast<R>(from.row<const T>(block.begin + i)[n]);
}

/// One value a channel; zero where absent.
template <class R>
Vector<R> load_channels(TensorView from, const Tile& tile) {
  Vector<R> to{};
  if (from.present())
    for (std::int64_t d = 0; d < tile.width; ++d) to[d] = from.as<R>()[static_cast<std::size_t>(tile.first + d)];
  return to;
}

/// A tile of a [D, N] matrix to and from N vectors of channels. `matrix` points at the row of the tile's first channel.
template <class R>
void load_states(const R* matrix, std::int64_t row_stride, std::int64_t states, const Tile& tile, Vector<R>* to) {
  for (std::int64_t n = 0; n < states; ++n) {
    to[n] = Vector<R>{};
    for (std::int64_t d = 0; d < tile.width; ++d) to[n][d] = matrix[d * row_stride + n];
  }
}

template <class R>
void store_states(const Vector<R>* from, std::int64_t states, const Tile& tile, R* matrix, std::int64_t row_stride) {
  for (std::int64_t n = 0; n < states; ++n)
    for (std::int64_t d = 0; d < tile.width; ++d) matrix[d * row_stride + n] = from[n][d];
}

/// delta + delta_bias in place becomes Δ.
template <class R>
void step_sizes(const Vector<R>& bias, bool with_softplus, std::int64_t tokens, Panel<R>& delta) {
  for (std::int64_t i = 0; i < tokens; ++i) delta.at[i] += bias;
  if (!with_softplus) return;
  R* x = delta.flat();
#pragma omp simd
  for (std::int64_t i = 0; i < tokens * lanes<R>; ++i) x[i] = softplus(x[i]);
}

/// delta + delta_bias in place becomes dΔ/d(delta).
template <class R>
void softplus_slopes(bool with_softplus, std::int64_t tokens, Panel<R>& delta) {
  R* x = delta.flat();
#pragma omp simd
  for (std::int64_t i = 0; i < tokens * lanes<R>; ++i) x[i] = with_softplus ? softplus_slope(x[i]) : R{1};
}

/// exp(Δ A_n) of a block.
template <class R>
void decays(const Panel<R>& delta, const Vector<R>& A, std::int64_t tokens, Panel<R>& decay) {
  for (std::int64_t i = 0; i < tokens; ++i) decay.at[i] = delta.at[i] * A;
  R* x = decay.flat();
#pragma omp simd
  for (std::int64_t i = 0; i < tokens * lanes<R>; ++i) x[i] = exponential(x[i]);
}

/// z becomes silu(z).
template <class R>
void gates(std::int64_t tokens, Panel<R>& z) {
  R* x = z.flat();
#pragma omp simd
  for (std::int64_t i = 0; i < tokens * lanes<R>; ++i) x[i] *= sigmoid(x[i]);
}

/// Scratch of R's, all zero bits, aligned for vectors, that returns to the stream's pool by itself.
template <class R>
class Scratch {
 public:
  Scratch(const Stream& stream, std::int64_t vectors) : tensor_(Tensor::zeros(stream, dtype_of<R>, {vectors, lanes<R>})) {}
  Vector<R>* data() const { return static_cast<Vector<R>*>(tensor_.view().data); }

 private:
  Tensor tensor_;
};

/// Shapes and types of what all of the scan's kernels read.
inline void expect_inputs(const SelectiveScanInputs& in) {
  const DType dtype = in.u.present() ? in.u.dtype : in.delta.dtype, accumulator = accumulator_of(dtype);
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
