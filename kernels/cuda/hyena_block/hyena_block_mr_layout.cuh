#pragma once

#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/device/warp_instructions.cuh"
#include "kernels/cuda/hyena_block/hyena_block_ring.cuh"

/// Where the rows of a warp's channels are in a stage's shared memory, for the kernels on tensor cores.
namespace causeway::cuda::fused_block {

inline constexpr int mr_tile = 16, mr_stage_tokens = 32, mr_octet_width = 15;

/// A warp has 16 places for channels of one group.
enum class MrLayout {
  whole,   ///< groups of a multiple of 16 channels: boxes of 64 channels with the swizzle of bulk copies
  octets,  ///< groups of 15 channels: boxes of the 120 channels of 8 groups, rows of 240 bytes
  words    ///< groups of other sizes, backward: windows of 16 channels that warps copy (WindowWord)
};

/// What follows from a layout.
///
/// `octets`: an octet is 8 channels, 16 bytes of a row, which is what ldmatrix and bulk copies take. 15 channels lie in
/// three octets. All channels of the second one are of the group, and so are the last ones of the first and the first
/// ones of the third, together 7, at different places of an octet. So a lane takes its channel from the first or from
/// the third octet by a selection, and the 16 places are the group's channels, rotated, and one that does not count.
/// Rows of 240 bytes need no swizzle: eight of them are in different banks.
template <MrLayout Layout>
struct MrForm {
  static constexpr bool octets = Layout == MrLayout::octets;
  static constexpr int warps = octets ? 8 : computing_warps,  ///< that compute
      places = warps * mr_tile,                               ///< of a block of threads
      channels = octets ? warps * mr_octet_width : places;    ///< of a box
  static constexpr unsigned token_bytes = Layout == MrLayout::words ? 2 * mr_tile : 2 * channels,  ///< to the next row
      tile_bytes = mr_tile * token_bytes, stage_rows_bytes = mr_stage_tokens * token_bytes,
                            tensor_bytes = mr_stage_tokens * channels * 2;  ///< of a stage
};

/// Lane constants of a tile's rows: offsets from the tile's first row.
/// Reversed: the rows in the order of TokenOrder<true>. Late: results replace the rows two tokens earlier.
template <MrLayout Layout, bool Reversed = false, bool Late = false>
struct MrAddress {
  using Form = MrForm<Layout>;
  unsigned row, earlier;  ///< what the lane passes to ldmatrix for the tile, and for the rows two tokens earlier
  unsigned wraps;         ///< 1: the earlier row is of the tile before; else 0
  // Octets. third: of the third octet; lanes 0 to 15 have the rows that results replace, the others the other rows.
  // edge: of the result that is written alone, for the earlier half of the lane's tokens.
  unsigned third = 0, third_wraps = 0, edge = 0, edge_wraps = 0;
  bool from_first = false;

  __device__ MrAddress(int warp, int lane) {
    const int place = lane % 8 + lane / 16 * 8, token = token_at(place), half = lane / 8 % 2;
    row = offset(warp, token, half);
    earlier = offset(warp, token - 2, half);
    wraps = factor(token < 2);
    if constexpr (Form::octets) {
      const int of_third = token_at(lane % 16), lag = (lane < 16) == Late ? 2 : 0;
      third = offset(warp, of_third - lag, 2);
      third_wraps = factor(of_third < lag);
      const int begin = mr_octet_width * warp - 8 * first_octet(warp), channel = lane / 4;  // of the group, the lane's
      from_first = channel >= begin;
      // The place that does not count is written to the second octet, and then overwritten.
      const int of_edge = Reversed ? 7 - 2 * (lane % 4) : 2 * (lane % 4), late = Late ? 2 : 0,
                octet = from_first            ? 0
                        : channel < begin - 1 ? 2
                                              : 1;
      edge = offset(warp, of_edge - late, octet) + static_cast<unsigned>(2 * channel);
      edge_wraps = factor(of_edge < late);
    }
  }

 private:
  /// 0 or 1, without the compiler's knowledge: it would make comparisons and selections of products with it.
  __device__ static unsigned factor(bool condition) {
    unsigned x = condition ? 1 : 0;
    asm volatile("" : "+r"(x));
    return x;
  }
  __device__ static int token_at(int place) { return Reversed ? mr_tile - 1 - place : place; }
  /// -1 for the first warp, which takes nothing from it: its group begins with the second octet.
  __device__ static int first_octet(int warp) { return (mr_octet_width * warp + 7) / 8 - 1; }
  /// Of a token from -2 on.
  __device__ static unsigned offset(int warp, int token, int half) {
    const int in_tile = (token + mr_tile) % mr_tile;
    if constexpr (Form::octets) {
      const int octet = first_octet(warp) + half;
      return static_cast<unsigned>(token * static_cast<int>(Form::token_bytes) + (octet < 0 ? 0 : octet) * 16);
    }
    if constexpr (Layout == MrLayout::whole)
      return static_cast<unsigned>(token * 128 + ((2 * warp + half) ^ (in_tile % 8)) * 16);
    return static_cast<unsigned>(warp * static_cast<int>(Form::stage_rows_bytes) +
                                 (token - in_tile + (in_tile ^ warp)) * 32 + (half ^ (in_tile / 4 % 2)) * 16);
  }
};

/// A tile's place in shared memory.
struct MrTilePlace {
  unsigned tile,  ///< its first row
      shift;      ///< what is added where a row of the tile before is meant: 0, or to the end of the stage before
};

/// The places of a ring's tiles in their order, two in a stage.
template <int Stages, MrLayout Layout>
struct MrTiles {
  using Form = MrForm<Layout>;
  static constexpr unsigned bytes = 2 * Form::tensor_bytes;
  unsigned first, stage;
  MrTilePlace at{};

  /// slot: of the stage before the first one.
  __device__ MrTiles(unsigned ring, int slot) : first(ring), stage(ring + static_cast<unsigned>(slot) * bytes) {}
  __device__ void enter_stage() {
    const unsigned before = stage;
    stage = stage == first + (Stages - 1) * bytes ? first : stage + bytes;
    at = {stage, before + Form::stage_rows_bytes - stage};
  }
  __device__ void enter_second_half() { at = {stage + Form::tile_bytes, 0}; }
};

/// Shared addresses of a tile's rows for this lane, as MrAddress has them.
template <MrLayout Layout, bool Reversed = false, bool Late = false>
struct MrRows {
  using Form = MrForm<Layout>;
  unsigned row, earlier, third = 0, edge = 0, inner = 0;  ///< inner: the later half of the lane's tokens
  bool from_first = false;

  __device__ static MrRows of(const MrAddress<Layout, Reversed, Late>& lanes, const MrTilePlace& at) {
    MrRows rows{.row = at.tile + lanes.row, .earlier = lanes.earlier + lanes.wraps * at.shift + at.tile};
    if constexpr (Form::octets) {
      rows.third = lanes.third + lanes.third_wraps * at.shift + at.tile;
      rows.edge = lanes.edge + lanes.edge_wraps * at.shift + at.tile;
      rows.inner = at.tile + lanes.edge + 8 * Form::token_bytes;
      rows.from_first = lanes.from_first;
    }
    return rows;
  }
  /// The same rows of another tensor of the stage.
  __device__ MrRows operator+(unsigned bytes) const {
    MrRows rows = *this;
    for (unsigned* at : {&rows.row, &rows.earlier, &rows.third, &rows.edge, &rows.inner}) *at += bytes;
    return rows;
  }
};

/// Rows of a tile as a lane has them, and of two tokens earlier.
struct RawTile {
  std::uint32_t row[4], earlier[4], third[4];  ///< third: of the third octet, in the order of MrAddress::third

  template <MrLayout Layout, bool Reversed, bool Late>
  __device__ void load(const MrRows<Layout, Reversed, Late>& at) {
    ldmatrix_x4<true>(row, at.row);
    load_earlier(at);
    select<Late>(row, at);
  }
  template <MrLayout Layout, bool Reversed, bool Late>
  __device__ void load_earlier(const MrRows<Layout, Reversed, Late>& at) {
    ldmatrix_x4<true>(earlier, at.earlier);
    if constexpr (MrForm<Layout>::octets) ldmatrix_x4<true>(third, at.third);
    select<!Late>(earlier, at);
  }
  /// After load_earlier().
  template <MrLayout Layout, bool Reversed, bool Late>
  __device__ void load_row(const MrRows<Layout, Reversed, Late>& at) {
    ldmatrix_x4<true>(row, at.row);
    select<Late>(row, at);
  }
  /// Only the tile.
  template <MrLayout Layout, bool Reversed, bool Late>
  __device__ void load_only_row(const MrRows<Layout, Reversed, Late>& at) {
    ldmatrix_x4<true>(row, at.row);
    if constexpr (MrForm<Layout>::octets) ldmatrix_x4<true>(third, at.third);
    select<Late>(row, at);
  }

 private:
  /// Second: of the third octet the second two matrices.
  template <bool Second, class Rows>
  __device__ void select(std::uint32_t (&x)[4], const Rows& at) const {
    if constexpr (Rows::Form::octets)
#pragma unroll
      for (int h = 0; h < 2; ++h) x[2 * h] = at.from_first ? x[2 * h] : third[h + (Second ? 2 : 0)];
  }
};

/// Writes a tile's results over the rows that they replace. A warp calls it together; all lanes have read the rows.
/// The seven channels of octets that have others too are written as 16 bits each, before the second octet, where the
/// place that does not count is written.
template <MrLayout Layout, bool Reversed, bool Late>
__device__ inline void store_results(const MrRows<Layout, Reversed, Late>& at, const std::uint32_t (&x)[4]) {
  if constexpr (!MrForm<Layout>::octets) {
    stmatrix_x4_transposed(Late ? at.earlier : at.row, x);
  } else {
    constexpr unsigned next = Reversed ? -MrForm<Layout>::token_bytes : MrForm<Layout>::token_bytes;
    constexpr int of_edge = Reversed ? 2 : 0;
    store_half_word(at.edge, x[of_edge]);
    store_half_word(at.edge + next, x[of_edge] >> 16);
    store_half_word(at.inner, x[2 - of_edge]);
    store_half_word(at.inner + next, x[2 - of_edge] >> 16);
    __syncwarp();
    stmatrix_x2_transposed(at.third - 16, x[1], x[3]);
  }
}

}  // namespace causeway::cuda::fused_block
