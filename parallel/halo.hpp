#pragma once

#include "kernels/tensor.hpp"
#include "parallel/communicator.hpp"
#include "parallel/exchange_plan.hpp"

namespace causeway {

/// Fills `halo` [chunks·reach, D] with the rows before each of this rank's chunks, zero where a document starts later. x: [local tokens, D].
/// One message a pair of ranks. A rank sends at most `reach` rows for each of its chunks, and somewhat more only where shards are both shorter
/// than the reach and of different length.
void halo_forward(const HaloPlan& plan, TensorView x, TensorView halo, Communicator& ranks, const Stream& stream);

/// The adjoint: every halo row's gradient is sent back and added to the row of x_grad it came from, in a fixed order. Halo rows that nobody
/// sent are not read.
void halo_backward(const HaloPlan& plan, TensorView halo_grad, TensorView x_grad, Communicator& ranks, const Stream& stream);

}  // namespace causeway
