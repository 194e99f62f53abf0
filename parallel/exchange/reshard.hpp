#pragma once

#include <span>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A pack between its two cuts: by tokens, a rank holding rows [local tokens, D], and by channels, a rank holding
/// columns [T, D'] of the whole pack. Each function is one exchange for all its tensors unless told otherwise, with a
/// message a tensor, a pair of ranks and a chunk. Each is linear; forward and adjoint stand together. Tensors are
/// [rows, columns] with any row stride, unless told otherwise.

/// How `channels` channels in `groups` equal groups are dealt over ranks, each share then cut into `slices`: whole
/// groups, as evenly as may be. A part may be empty.
struct Dealing {
  std::int64_t channels = 0, groups = 1;
  int slices = 1, slice = 0;
  Range share(int ranks, int rank) const;
};

struct LocalAndWhole {
  TensorView local;  ///< [local tokens, channels]
  TensorView whole;  ///< [T, this rank's channels], dense
};

/// Writes `whole`: this rank's channels of every token. The handle's wait() completes it; both tensors stay where they
/// are until then.
Pending start_tokens_to_channels(const Sharding& sharding, const Dealing& dealing,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream);
/// Its adjoint and inverse: writes the channels of `local` that are in this slice.
Pending start_channels_to_tokens(const Sharding& sharding, const Dealing& dealing,
                                 std::span<const LocalAndWhole> tensors, Communicator& ranks, const Stream& stream);

/// Writes `whole` [T, D], dense: every rank's rows. Sends (N-1) times the rank's own.
Pending start_gather_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                            const Stream& stream);
/// Its adjoint: `local` = Σ over the ranks of their `whole`'s rows. Parts travel in local's dtype and are added in the
/// accumulator type, in rank order; in several exchanges, since all ranks' parts at once would be as large as `whole`.
void reduce_tokens(const Sharding& sharding, std::span<const LocalAndWhole> tensors, Communicator& ranks,
                   const Stream& stream);

}  // namespace causeway
