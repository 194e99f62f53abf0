#pragma once

#include "kernels/tensor.hpp"
#include "parallel/communicator.hpp"
#include "parallel/exchange_plan.hpp"

namespace causeway {

/// Fills `halo` [chunks·reach, D] with the rows before each of this rank's chunks, zero where a document starts later. x: [local tokens, D].
void halo_forward(const HaloPlan& plan, TensorView x, TensorView halo, Communicator& ranks, const Stream& stream);

/// The adjoint: every halo row's gradient is sent back and added to the row of x_grad it came from.
void halo_backward(const HaloPlan& plan, TensorView halo_grad, TensorView x_grad, Communicator& ranks, const Stream& stream);

}  // namespace causeway
