#pragma once

#include <span>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/span_plan.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Moves the rows of the documents that span several ranks onto equal shards: writes `shards`, a dense [shard(), D] for
/// each document of plan.spanning, with zeros after the document's end. `local` is [local tokens, D]. One exchange.
void to_equal_shards(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards, Communicator& ranks,
                     const Stream& stream);
/// The adjoint, and for these documents the inverse: writes their rows of `local`. One exchange.
void from_equal_shards(const SpanPlan& plan, std::span<const TensorView> shards, TensorView local, Communicator& ranks,
                       const Stream& stream);

}  // namespace causeway
