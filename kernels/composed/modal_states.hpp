#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::composed {

/// The states that a forward with a backward's inputs saves, for devices that need them in memory.
inline Tensor modal_states(const Stream& stream, const ModalConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const Tensor y(stream, in.v.dtype, in.v.shape);  // nobody reads it
  Tensor states(stream, args.log_rates.dtype,
                {ceil_div(in.segments.tokens, modal_conv_block), args.log_rates.rows(), args.log_rates.columns()});
  modal_conv_forward(stream, {.in = in,
                              .residues = args.residues,
                              .log_rates = args.log_rates,
                              .state_in = args.state_in,
                              .y = y,
                              .states = states,
                              .state_out = {}});
  return states;
}

}  // namespace causeway::composed
