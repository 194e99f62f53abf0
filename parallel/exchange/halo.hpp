#pragma once

#include "kernels/core/tensor.hpp"
#include "parallel/layout/halo_plan.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The input of a short filter: x = a, or x = a⊙b rounded to its dtype if b is present. [local tokens, D]. The
/// gradients d_a and d_b have the same form.
struct FilterInput {
  TensorView a, b;  ///< b may be absent
};

/// Sends the rows of x that other ranks need and fills `halo` [chunks·reach, D] (HaloPlan has its layout) with the rows
/// before each of this rank's chunks; rows before the start of the document are zero. `halo` is complete after wait().
/// The product a⊙b is computed before it is sent. One message per pair of ranks. A rank sends at most `reach` rows for
/// each of its chunks; somewhat more only if shards are both shorter than the reach and of different length.
Pending start_halo(const HaloPlan& plan, const FilterInput& x, TensorView halo, Communicator& ranks,
                   const Stream& stream);

/// The adjoint: sends the gradient r of every halo row back to the rank that holds the row. wait() adds it there, in a
/// fixed order: d_a += r, or d_a += r⊙b and d_b += r⊙a. Halo rows that were not received are not read.
Pending start_halo_adjoint(const HaloPlan& plan, TensorView d_halo, const FilterInput& x, const FilterInput& d_x,
                           Communicator& ranks, const Stream& stream);

}  // namespace causeway
