#pragma once

#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/start_reader.cuh"
#include "kernels/cuda/hyena_block/hyena_block.cuh"

/// How the work is cut. A block of threads has 256 (MR: 64) neighbouring channels, a column, and goes down its tiles of
/// tokens. All tiles of all columns, column by column, are one sequence, of which each block takes an equal contiguous
/// range; so a range may touch several columns, and there is one wave of blocks for any shape. Before a range the block
/// computes `warm_up` tiles of which it writes nothing. A column begins with `lead` tiles of rows before the run, which
/// are in the halo; 0 without one.
namespace causeway::cuda::fused_block {

inline constexpr int block_channels = 256, unit_tokens = 8;

struct BlockPlan {
  int columns, tiles, lead;  ///< columns of `channels` channels; tiles of a column, those of the halo included
  int blocks, warm_up, channels;

  /// For tiles of `tokens` tokens of a run, and of the rows before it; `beyond` more tokens after the run; at most
  /// `most` blocks; ranges that depend on `depth` tokens before them.
  /// all_channels: of all columns, if they are not those of q.
  static BlockPlan of(const HyenaBlockInputs& in, int channels, int tokens, int beyond, int depth, std::int64_t most,
                      std::int64_t all_channels = 0) {
    const std::int64_t columns = ceil_div(all_channels > 0 ? all_channels : in.q.columns(), channels),
                       lead = ceil_div(reached_rows(in), tokens),
                       tiles = lead + ceil_div(in.segments.tokens + beyond, tokens);
    ensure(columns * tiles < std::int64_t{1} << 31, "{} tiles of a run, expected less than 2^31", columns * tiles);
    return {.columns = static_cast<int>(columns),
            .tiles = static_cast<int>(tiles),
            .lead = static_cast<int>(lead),
            .blocks = static_cast<int>(std::min(most, columns * tiles)),
            .warm_up = static_cast<int>(ceil_div(depth, tokens)),
            .channels = channels};
  }
  int ranges = 0;  ///< of each column, if all columns are cut alike (cut_columns_alike); else 0

  /// The first tile of a block's range, in the sequence of all tiles.
  __host__ __device__ int begin(int block) const {
    return static_cast<int>(std::int64_t{columns} * tiles * block / blocks);
  }
  /// The range that this block takes. If all columns are cut alike, neighbouring blocks take the same tokens of
  /// neighbouring columns.
  __device__ int range() const {
    const int block = static_cast<int>(blockIdx.x);
    return ranges == 0 ? block : block % columns * ranges + block / columns;
  }
};

/// Cuts every column at the same tokens, if there are at least as many blocks as columns. Then the blocks that run at
/// the same time read whole rows together: a column of 64 channels alone is 128 bytes of each row.
inline BlockPlan cut_columns_alike(BlockPlan plan) {
  plan.ranges = plan.blocks / plan.columns;
  if (plan.ranges > 0) plan.blocks = plan.ranges * plan.columns;
  return plan;
}

/// The tiles of a block in order. Neighbouring tiles of one column are a stretch; each begins with its warm-up.
struct TileCursor {
  int column, tile;
  int begin, first, last;  ///< of the stretch: its first tile, the first after its warm-up, its end

  __device__ TileCursor(const BlockPlan& plan, int block)
      : plan_(&plan), item_(plan.begin(block)), end_(plan.begin(block + 1)) {
    enter();
  }
  __device__ bool exists() const { return item_ < end_; }
  __device__ bool begins_stretch() const { return tile == begin; }
  __device__ bool ends_stretch() const { return tile == last - 1; }
  /// Whether results of this tile belong to the range.
  __device__ bool counts() const { return tile >= first; }
  __device__ void advance() {
    if (++tile == last) leave_stretch();
  }
  /// Goes to the first tile of the next stretch.
  __device__ void leave_stretch() {
    item_ += last - first;
    enter();
  }

 private:
  __device__ void enter() {
    if (item_ >= end_) return;
    column = item_ / plan_->tiles;
    first = item_ % plan_->tiles;
    last = first + (end_ - item_) < plan_->tiles ? first + (end_ - item_) : plan_->tiles;
    begin = first < plan_->warm_up ? 0 : first - plan_->warm_up;
    tile = begin;
  }
  const BlockPlan* plan_;
  int item_, end_;
};

/// Whether token i and the `lag` tokens before it are of one document, by the word of i's tile. With constants it is
/// one instruction; if not `Masked`, the caller knows that it is so.
template <bool Masked>
__device__ inline bool reaches(unsigned starts, int i, int lag) {
  return !Masked || (starts >> (17 + i - lag) & ((1u << lag) - 1)) == 0;
}

}  // namespace causeway::cuda::fused_block
