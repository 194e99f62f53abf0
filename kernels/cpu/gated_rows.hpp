#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/channel_tiles.hpp"
#include "kernels/expect_gated_conv.hpp"
#include "kernels/gated_conv.hpp"

/// Loads and stores of rows of tokens, of one tile's channels, converted to the accumulator type R; and the gates
/// around a convolution.
namespace causeway::cpu {

/// Iterates over the rows of one tile, to read or to write, and prefetches the row `distance` tokens later into the L2
/// cache: rows are too far apart for the hardware prefetcher.
template <class T, bool written = false>
class PrefetchedRows {
 public:
  PrefetchedRows(TensorView x, std::int64_t first, const Tile& tile)
      : row_(x.row<T>(first) + tile.first), stride_(x.row_stride), fetchable_(x.rows() - first - distance) {}
  T* operator*() const { return row_; }
  void next() {
    if (fetchable_-- > 0) __builtin_prefetch(row_ + distance * stride_, written, 2);
    row_ += stride_;
  }

 private:
  static constexpr std::int64_t distance = 64;
  T* row_;
  std::int64_t stride_, fetchable_;
};

/// Rows [first, first + count) of a tile.
template <class T, class R = Accumulator<T>>
void load_rows(TensorView from, std::int64_t first, std::int64_t count, const Tile& tile, Vector<R>* to) {
  PrefetchedRows<const T> row(from, first, tile);
  for (std::int64_t i = 0; i < count; ++i, row.next()) to[i] = load_lanes<R>(*row, tile.width);
}

template <class T, class R = Accumulator<T>>
void store_rows(const Vector<R>* from, std::int64_t first, std::int64_t count, const Tile& tile, TensorView to) {
  PrefetchedRows<T, true> row(to, first, tile);
  for (std::int64_t i = 0; i < count; ++i, row.next()) store_lanes<R>(from[i], *row, tile.width);
}

/// x rounded to T.
template <class T, class R = Accumulator<T>>
Vector<R> rounded(const Vector<R>& x) {
  if constexpr (std::is_same_v<T, R>) return x;
  Vector<R> y;
  for (std::int64_t d = 0; d < lanes<R>; ++d) y[d] = static_cast<R>(static_cast<T>(x[d]));
  return y;
}

/// Rows of k⊙v, rounded to T; of v if k is absent.
template <class T, class R = Accumulator<T>>
void load_product(const GatedConvInputs& in, std::int64_t first, std::int64_t count, const Tile& tile, Vector<R>* to) {
  if (!in.k.present()) return load_rows<T>(in.v, first, count, tile, to);
  PrefetchedRows<const T> k(in.k, first, tile), v(in.v, first, tile);
  for (std::int64_t i = 0; i < count; ++i, k.next(), v.next())
    to[i] = rounded<T>(load_lanes<R>(*k, tile.width) * load_lanes<R>(*v, tile.width));
}

/// Rows of y = gate ⊙ x; y = x if the gate is absent.
template <class T, class R = Accumulator<T>>
void store_gated(const Vector<R>* x, TensorView gate, std::int64_t first, std::int64_t count, const Tile& tile,
                 TensorView y) {
  if (!gate.present()) return store_rows<T>(x, first, count, tile, y);
  PrefetchedRows<const T> g(gate, first, tile);
  PrefetchedRows<T, true> row(y, first, tile);
  for (std::int64_t i = 0; i < count; ++i, g.next(), row.next())
    store_lanes<R>(load_lanes<R>(*g, tile.width) * x[i], *row, tile.width);
}

/// Rows of dc = d_y⊙q, not rounded to T; of d_y if q is absent.
template <class T, class R = Accumulator<T>>
void load_output_gradient(const GatedConvInputs& in, TensorView d_y, std::int64_t first, std::int64_t count,
                          const Tile& tile, Vector<R>* to) {
  load_rows<T>(d_y, first, count, tile, to);
  if (!in.q.present()) return;
  PrefetchedRows<const T> q(in.q, first, tile);
  for (std::int64_t i = 0; i < count; ++i, q.next()) to[i] *= load_lanes<R>(*q, tile.width);
}

/// Rows of d_k = d_kv⊙v and d_v = d_kv⊙k; without k only d_v = d_kv.
template <class T, class R = Accumulator<T>>
void store_product_gradient(const Vector<R>* d_kv, const GatedConvInputs& in, const GatedConvGradients& to,
                            std::int64_t first, std::int64_t count, const Tile& tile) {
  if (in.k.present()) store_gated<T>(d_kv, in.v, first, count, tile, to.d_k);
  store_gated<T>(d_kv, in.k, first, count, tile, to.d_v);
}

/// An element of a parameter that is stored in the activations' type T or in its accumulator type.
template <class T>
Accumulator<T> parameter(TensorView x, std::int64_t row, std::int64_t column) {
  using R = Accumulator<T>;
  return x.dtype == dtype_of<R> ? x.row<const R>(row)[column] : static_cast<R>(x.row<const T>(row)[column]);
}

}  // namespace causeway::cpu
