#pragma once

#include <array>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/halo_plan.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The input x of a short filter, [local tokens, D]: x = a; or x = a⊙b rounded to its dtype, if b is present; or the
/// columns of a and of both tensors of `beside`, side by side. Gradients have the same form.
struct FilterInput {
  TensorView a, b;                        ///< b may be absent
  std::array<TensorView, 2> beside = {};  ///< of a's shape, or absent; then b is absent

  int tensors() const { return beside[0].present() ? 3 : 1; }  ///< side by side
  TensorView tensor(int i) const { return i == 0 ? a : beside[static_cast<std::size_t>(i - 1)]; }
  std::int64_t columns() const { return tensors() * a.columns(); }
  /// The columns of a matrix of x's width that belong to tensor(i).
  TensorView columns_of_tensor(int i, TensorView matrix) const {
    return matrix.slice_columns(i * a.columns(), a.columns());
  }
};

/// Sends the rows of x that other ranks need and fills `halo` [chunks·reach, D] (HaloPlan has its layout) with the rows
/// before each of this rank's chunks; rows before the start of the document are zero. `halo` is complete after wait().
/// The product a⊙b is computed before it is sent. One message per pair of ranks. A rank sends at most `reach` rows for
/// each of its chunks; somewhat more only if shards are both shorter than the reach and of different length.
Pending start_halo(const HaloPlan& plan, const FilterInput& x, TensorView halo, Communicator& ranks,
                   const Stream& stream);

/// The adjoint: sends the gradient r of every halo row back to the rank that holds the row. wait() adds it there, in a
/// fixed order: d_a += r, or d_a += r⊙b and d_b += r⊙a; side by side, each its own columns of r. Halo rows that were
/// not received are not read.
Pending start_halo_adjoint(const HaloPlan& plan, TensorView d_halo, const FilterInput& x, const FilterInput& d_x,
                           Communicator& ranks, const Stream& stream);

}  // namespace causeway
