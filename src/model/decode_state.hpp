#pragma once

#include <cstdint>
#include <vector>

#include "kernels/causal_conv.hpp"

namespace causeway {

/// What an operator remembers of one document's tokens so far, so that more can follow: the rows before the next one,
/// the state of a recurrence, keys and values. Which tensors stand there is the operator's own business; none before
/// the first token.
struct DecodeState {
  std::int64_t tokens = 0;  ///< of the document so far; counted by who calls the operators
  std::vector<Tensor> memory;
};

/// The documents of a run of `count` tokens of the document that has `before` already.
inline DeviceSegments next_run(const Stream& stream, std::int64_t before, std::int64_t count) {
  return {stream, {-before, count}, count};
}

/// The last rows of `before` followed by `x`, as many as `before` has: what a convolution reads of the past next time.
Tensor last_rows(const Stream& stream, TensorView before, TensorView x);

/// The convolution of a run of tokens that comes after the rows of `halo` [W-1, D], which then become those before the
/// next run.
void extend_convolution(const Stream& stream, CausalConvForward args, Tensor& halo);

}  // namespace causeway
