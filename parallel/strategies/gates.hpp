#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// The gates of a gated convolution on this rank's rows, for strategies that exchange only x = k⊙v and c:
/// y = q ⊙ c, where `plain` writes c = h∗x + skip⊙x. Saves c.
void gate_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                  const std::function<void(TensorView x, TensorView c)>& plain);

/// The adjoint: d_q = d_y⊙c; plain_adjoint writes d_x from d_c = d_y⊙q; d_k = d_x⊙v, d_v = d_x⊙k.
void gate_backward(const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients,
                   Saved& saved, const std::function<void(TensorView d_c, TensorView d_x)>& plain_adjoint);

/// The same for a range of channels at a time, for pipelined exchanges: `plain` calls before(columns) before it reads
/// these columns of x, and after(columns) when it has written these columns of c. Both may be empty.
struct ColumnGates {
  std::function<void(Range columns)> before, after;
};
void gate_columns_forward(const StrategyContext& context, const GatedConvInputs& in, TensorView y, Saved* saved,
                          const std::function<void(TensorView x, TensorView c, const ColumnGates&)>& plain);
void gate_columns_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, Saved& saved,
    const std::function<void(TensorView d_c, TensorView d_x, const ColumnGates&)>& plain_adjoint);

/// The arguments for the rows of one chunk.
GatedConvInputs on_chunk(GatedConvInputs in, const Chunk& chunk);
GatedConvGradients on_chunk(GatedConvGradients gradients, const Chunk& chunk);

/// x = k⊙v, stored in `memory`; v itself if k is absent.
TensorView gate_product(const StrategyContext& context, const GatedConvInputs& in, Tensor& memory);

}  // namespace causeway
