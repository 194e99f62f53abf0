#pragma once

#include "kernels/core/tensor.hpp"
#include "parallel/layout/exchange_plan.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// What halo rows are made of: the rows of `a`, or of the product a⊙b, rounded to their dtype. [local tokens, D]
struct HaloRows {
  TensorView a, b;  ///< b may be absent
};

/// Fills `halo` [chunks·reach, D] with the rows before each of this rank's chunks, zero where a document starts later;
/// complete after wait(). One message a pair of ranks. A rank sends at most `reach` rows for each of its chunks, and
/// somewhat more only where shards are both shorter than the reach and of different length.
Pending start_halo(const HaloPlan& plan, const HaloRows& x, TensorView halo, Communicator& ranks, const Stream& stream);

/// The adjoint: every halo row's gradient r is sent back to the row it came from, in a fixed order: d_a += r, or d_a +=
/// r⊙b and d_b += r⊙a. Halo rows that nobody sent are not read. The gradients are added to in wait().
Pending start_halo_adjoint(const HaloPlan& plan, TensorView halo_grad, const HaloRows& x, const HaloRows& x_grad,
                           Communicator& ranks, const Stream& stream);

}  // namespace causeway
