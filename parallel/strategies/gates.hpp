#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// The gates of a gated convolution on this rank's rows, for strategies whose exchange carries the product alone: y = q
/// ⊙ plain(k⊙v), where `plain` writes c = h∗x + skip⊙x of x = k⊙v. Saves c.
void gate_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                  const std::function<void(TensorView x, TensorView c)>& plain);

/// d_q = d_y⊙c; plain's adjoint writes d_x from d_c = d_y⊙q; d_k = d_x⊙v, d_v = d_x⊙k.
void gate_backward(const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients,
                   Saved& saved, const std::function<void(TensorView d_c, TensorView d_x)>& plain_adjoint);

/// Both, a range of channels at a time, for exchanges that compute some while others are in flight: `plain` calls
/// before(columns) ahead of reading those columns of its argument, and after(columns) when its result's are written.
struct ColumnGates {
  std::function<void(Range columns)> before, after;
};
void gate_columns_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                          const std::function<void(TensorView x, TensorView c, const ColumnGates&)>& plain);
void gate_columns_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, Saved& saved,
    const std::function<void(TensorView d_c, TensorView d_x, const ColumnGates&)>& plain_adjoint);

/// The same arguments on the rows of one run.
GatedConvInputs on_run(GatedConvInputs in, const Chunk& run);
GatedConvGradients on_run(GatedConvGradients gradients, const Chunk& run);

/// k⊙v, in `memory`; or v itself.
TensorView gate_product(const StrategyContext& context, const GatedConvInputs& in, Tensor& memory);

}  // namespace causeway
