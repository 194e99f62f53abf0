#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/core/scan_direction.hpp"
#include "kernels/cpu/channel_tiles.hpp"

/// Shared by the summaries of modal_conv and selective_scan. Both operators are linear recurrences along the tokens,
/// h_t = a_t h_{t-1} + x_t. When a document spans several runs, each run computes a summary from a zero start: the
/// state after its last token (left to right) or the adjoint before its first token (right to left). A fold over the
/// runs, in their order, then gives the state or the adjoint that enters each run.
namespace causeway::cpu {

/// Run rows [begin, end).
struct RunRows {
  std::int64_t begin, end;
};

/// The rows of a run that a summary covers: those of its last document from left to right, of its first document from
/// right to left.
inline RunRows summary_rows(const SegmentsView& segments, ScanDirection direction) {
  if (segments.count == 0) return {0, 0};
  if (direction == ScanDirection::left_to_right)
    return {std::max<std::int64_t>(0, segments.cu_seqlens[segments.count - 1]), segments.tokens};
  return {0, std::min(segments.tokens, segments.cu_seqlens[1])};
}

/// Computes a summary in blocks of `block_rows` rows, one after the other in `direction`; a thread takes a group of
/// tiles through all blocks. Block b begins at row rows.begin + b · block_rows. `summary` has these members:
///     prepare(tile)              loads what a tile needs, and sets its sum to zero
///     begin_block(group, b)      does what all tiles of a group share; its result is passed to add_block
///     add_block(shared, tile)    advances a tile's sum over the block
///     finish(tile)               writes a tile's sum
template <class R, class Summary>
void summarize(const TileGroups<R>& groups, const RunRows& rows, std::int64_t block_rows, ScanDirection direction,
               bool parallel, const Summary& summary) {
  const std::int64_t blocks = ceil_div(rows.end - rows.begin, block_rows);
#pragma omp parallel for schedule(static) if (parallel)
  for (std::int64_t group = 0; group < groups.count; ++group) {
    const std::int64_t first_tile = groups.first_tile(group), last_tile = groups.first_tile(group + 1);
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) summary.prepare(tile);
    for (std::int64_t i = 0; i < blocks; ++i) {
      const auto shared = summary.begin_block(group, direction == ScanDirection::left_to_right ? i : blocks - 1 - i);
      for (std::int64_t tile = first_tile; tile < last_tile; ++tile) summary.add_block(shared, tile);
    }
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) summary.finish(tile);
  }
}

/// One step of the fold over runs: carry[d,n] = summary[d,n] + decay_of(d)(n) · carry[d,n].
template <class R, class DecayOf>
void fold_summary(TensorView summary, TensorView carry, bool parallel, const DecayOf& decay_of) {
  const std::int64_t D = carry.rows(), N = carry.columns();
#pragma omp parallel for schedule(static) if (parallel)
  for (std::int64_t d = 0; d < D; ++d) {
    const auto decay = decay_of(d);
    const R* const own = summary.row<const R>(d);
    R* const entering = carry.row<R>(d);
    for (std::int64_t n = 0; n < N; ++n) entering[n] = own[n] + decay(n) * entering[n];
  }
}

}  // namespace causeway::cpu
