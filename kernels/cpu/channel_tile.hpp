#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/cpu/vector_math.hpp"

/// How operators whose channels are independent are cut for a CPU: lanes are channels, a tile is one vector of them.
namespace causeway::cpu {

/// Channels [first, first + width), width <= lanes: the lanes beyond are padding and hold zeros.
struct Tile {
  std::int64_t first, width;
};

/// The tiles of D channels, dealt to at most 16 groups, of four tiles or more where there are as many: what a group
/// does once for all its tiles (B and C transposed, d_B and d_C summed over the lanes) costs as much as half a tile.
template <class R>
struct TileGroups {
  explicit TileGroups(std::int64_t channels_)
      : channels(channels_), tiles(ceil_div(channels_, lanes<R>)), count(std::min<std::int64_t>((tiles + 3) / 4, 16)) {}
  std::int64_t first_tile(std::int64_t group) const { return group * tiles / count; }
  Tile tile(std::int64_t index) const { return {index * lanes<R>, std::min(lanes<R>, channels - index * lanes<R>)}; }

  std::int64_t channels, tiles, count;
};

/// One value a channel; zero where absent.
template <class R>
Vector<R> load_channels(TensorView from, const Tile& tile) {
  Vector<R> to{};
  for (std::int64_t d = 0; from.present() && d < tile.width; ++d) to[d] = from.row<const R>(tile.first + d)[0];
  return to;
}

/// A tile of a [D, N] matrix to and from N vectors of channels.
template <class R>
void load_matrix(TensorView from, const Tile& tile, Vector<R>* to) {
  std::fill(to, to + from.columns(), Vector<R>{});
  for (std::int64_t d = 0; d < tile.width; ++d)
    for (std::int64_t n = 0; n < from.columns(); ++n) to[n][d] = from.row<const R>(tile.first + d)[n];
}

template <class R>
void store_matrix(const Vector<R>* from, const Tile& tile, TensorView to) {
  for (std::int64_t d = 0; d < tile.width; ++d)
    for (std::int64_t n = 0; n < to.columns(); ++n) to.row<R>(tile.first + d)[n] = from[n][d];
}

/// The N vectors of a tile in a block of `states`, where each tile stands as [N][width]: an order of the CPU's own,
/// that costs no transposition.
template <class R>
void store_saved(const Vector<R>* h, std::int64_t states, const Tile& tile, R* block) {
  for (std::int64_t n = 0; n < states; ++n)
    store_lanes<R>(h[n], block + tile.first * states + n * tile.width, tile.width);
}

template <class R>
void load_saved(const R* block, std::int64_t states, const Tile& tile, Vector<R>* h) {
  for (std::int64_t n = 0; n < states; ++n)
    h[n] = load_lanes<R>(block + tile.first * states + n * tile.width, tile.width);
}

/// Scratch of R's, all zero bits, aligned for vectors, that returns to the stream's pool by itself.
template <class R>
class Scratch {
 public:
  Scratch(const Stream& stream, std::int64_t vectors)
      : tensor_(Tensor::zeros(stream, dtype_of<R>, {vectors, lanes<R>})) {}
  Vector<R>* data() const { return static_cast<Vector<R>*>(tensor_.view().data); }

 private:
  Tensor tensor_;
};

/// Calls body(first, last, start, end) for the parts [first, last) of tokens [begin, end) that lie in one document
/// [start, end) each, in rising order. Tokens before the first document, which a halo may hold, are in none.
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
