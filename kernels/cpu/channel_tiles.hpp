#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cpu/vector_math.hpp"

/// How operators with independent channels are divided on a CPU: the lanes of a vector are channels, and a tile is one
/// vector of channels.
namespace causeway::cpu {

/// Channels [first, first + width), width <= lanes. The lanes beyond are padding and hold zeros.
struct Tile {
  std::int64_t first, width;
};

/// Tile number `index` of D channels.
template <class R>
Tile tile_of(std::int64_t channels, std::int64_t index) {
  return {index * lanes<R>, std::min(lanes<R>, channels - index * lanes<R>)};
}

/// The tiles of D channels, divided into at most 16 groups; of four tiles or more each, if there are enough tiles. A
/// thread takes a group at a time. Some work is done once for all tiles of a group (B and C are transposed, d_B and d_C
/// summed over the lanes); it costs as much as half a tile. Groups depend only on the number of channels.
template <class R>
struct TileGroups {
  explicit TileGroups(std::int64_t channels_)
      : channels(channels_),
        tiles(ceil_div(channels_, lanes<R>)),
        count(std::min<std::int64_t>(ceil_div(tiles, 4), 16)) {}
  std::int64_t first_tile(std::int64_t group) const { return group * tiles / count; }
  Tile tile(std::int64_t index) const { return tile_of<R>(channels, index); }

  std::int64_t channels, tiles, count;
};

/// One value per channel of a tile; zero if the view is absent.
template <class R>
Vector<R> load_channels(TensorView from, const Tile& tile) {
  Vector<R> to{};
  for (std::int64_t d = 0; from.present() && d < tile.width; ++d) to[d] = from.row<const R>(tile.first + d)[0];
  return to;
}

/// A tile's rows of a [D, N] matrix, as N vectors of channels.
template <class R>
void load_matrix(TensorView from, const Tile& tile, Vector<R>* to) {
  std::fill(to, to + from.columns(), Vector<R>{});
  for (std::int64_t d = 0; d < tile.width; ++d)
    for (std::int64_t n = 0; n < from.columns(); ++n) to[n][d] = from.row<const R>(tile.first + d)[n];
}

/// The reverse of load_matrix.
template <class R>
void store_matrix(const Vector<R>* from, const Tile& tile, TensorView to) {
  for (std::int64_t d = 0; d < tile.width; ++d)
    for (std::int64_t n = 0; n < to.columns(); ++n) to.row<R>(tile.first + d)[n] = from[n][d];
}

/// Writes a tile's N state vectors to one block of `states`. A tile is stored as [N][width] there: this is the order of
/// the CPU, which needs no transposition.
template <class R>
void store_saved_states(const Vector<R>* h, std::int64_t states, const Tile& tile, R* block) {
  for (std::int64_t n = 0; n < states; ++n)
    store_lanes<R>(h[n], block + tile.first * states + n * tile.width, tile.width);
}

/// The reverse of store_saved_states.
template <class R>
void load_saved_states(const R* block, std::int64_t states, const Tile& tile, Vector<R>* h) {
  for (std::int64_t n = 0; n < states; ++n)
    h[n] = load_lanes<R>(block + tile.first * states + n * tile.width, tile.width);
}

/// Owns some vectors of scratch memory, zero at first, from the stream's pool.
template <class R>
class VectorScratch {
 public:
  VectorScratch(const Stream& stream, std::int64_t vectors)
      : tensor_(Tensor::zeros(stream, dtype_of<R>, {vectors, lanes<R>})) {}
  Vector<R>* data() const { return static_cast<Vector<R>*>(tensor_.view().data); }

 private:
  Tensor tensor_;
};

/// For each document that tokens [begin, end) touch, in rising order: calls body(first, last, start, end), where
/// [first, last) are those of the tokens that belong to the document [start, end). All are run rows. Tokens before the
/// first document, which a halo may hold, belong to none.
template <class Body>
void for_each_document(const SegmentsView& segments, std::int64_t begin, std::int64_t end, const Body& body) {
  const std::int64_t* const last = segments.cu_seqlens + segments.count;
  const std::int64_t* at = std::upper_bound(segments.cu_seqlens, last, begin);
  if (at != segments.cu_seqlens) --at;
  for (; at != last && *at < end; ++at)
    if (const std::int64_t from = std::max(begin, at[0]), to = std::min(end, at[1]); from < to)
      body(from, to, at[0], at[1]);
}

}  // namespace causeway::cpu
