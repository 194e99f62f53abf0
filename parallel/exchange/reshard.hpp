#pragma once

#include <span>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Moves a pack between its two distributions: by tokens, where a rank holds rows [local tokens, D], and by channels,
/// where a rank holds columns [T, D'] of the whole pack. Each function is one exchange for all its tensors, with one
/// message per tensor, pair of ranks and chunk, unless its comment says otherwise. All are linear; an adjoint follows
/// its function. Tensors are [rows, columns] with any row stride, unless stated otherwise.

/// How `channels` channels in `groups` equal groups are distributed over the ranks, and the channels of each rank over
/// `slices` slices (of which this is number `slice`): whole groups, as evenly as possible. A slice may be empty.
struct ChannelPartition {
  std::int64_t channels = 0, groups = 1;
  int slices = 1, slice = 0;
  /// The channels of this slice on rank `rank` of `ranks`.
  Range share(int ranks, int rank) const;
};

/// One tensor in both distributions.
struct LocalAndWhole {
  TensorView local;  ///< [local tokens, channels]: this rank's rows
  TensorView whole;  ///< [T, this rank's channels], dense: all rows
};

/// Writes `whole`: this rank's channels of every token. It is complete after wait(); neither tensor may be freed or
/// written before.
Pending start_tokens_to_channels(const Sharding& sharding, const ChannelPartition& partition,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream);
/// The adjoint and inverse: writes the channels of `local` that are in this slice.
Pending start_channels_to_tokens(const Sharding& sharding, const ChannelPartition& partition,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream);

/// One tensor of one slice.
struct SliceOfTensor {
  ChannelPartition partition;
  LocalAndWhole tensor;
};
/// start_channels_to_tokens for tensors of any slices, in one exchange, until it is complete. Each `whole` may lie in
/// the memory of any `local`: all are read before the first is written. So it takes a buffer as large as all `whole`.
void channels_to_tokens_in_place(const Sharding& sharding, std::span<const SliceOfTensor> tensors, Communicator& ranks,
                                 const Stream& stream);

/// Writes `whole` [T, D], dense: every rank's rows. A rank sends its rows to N-1 others.
Pending start_gather_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                            const Stream& stream);
/// Each chunk is reduced in so many pieces, one after the other, so that the received parts of N ranks need little
/// memory. Fewer are enough for some of a rank's columns.
inline constexpr int reduce_pieces = 8;
/// So many pieces that a message has at least 32 KiB, for rows of so many bytes: with many ranks a chunk's part is
/// short anyway, and each piece is a message to every rank. The same on all ranks.
int pieces_of_long_messages(const ShardLayout& layout, std::int64_t row_bytes);

/// The adjoint: `local` = Σ over the ranks of their `whole`'s rows of this rank's tokens. The parts are sent in local's
/// dtype and added in the accumulator type, in rank order. Takes several exchanges, because all ranks' parts together
/// would need as much memory as `whole`: `pieces` for each tensor.
void reduce_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                   const Stream& stream, int pieces = reduce_pieces);

}  // namespace causeway
