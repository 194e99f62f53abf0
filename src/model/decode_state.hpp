#pragma once

#include <cstdint>
#include <vector>

#include "kernels/causal_conv.hpp"

namespace causeway {

/// The state that a sublayer keeps after the tokens of one document so far, in order to compute the next tokens: the
/// last input rows of a convolution, the SSM state of a scan, the key/value cache of attention.
struct DecodeState {
  std::int64_t tokens = 0;    ///< of the document so far; the caller of Sublayer::extend adds to it
  std::vector<Tensor> cache;  ///< in an order that the sublayer defines; empty before the first token
};

/// The segments of the next `count` tokens of a document that has `before` tokens already.
inline DeviceSegments segments_of_next(const Stream& stream, std::int64_t before, std::int64_t count) {
  return {stream, {-before, count}, count};
}

/// The last before.rows() rows of `before` followed by `x`: a convolution's rows before the next token.
Tensor last_rows(const Stream& stream, TensorView before, TensorView x);

/// The convolution of the next tokens. `rows` [W-1, D] are the input rows before them, and then the last ones of
/// those rows and args.x.
void extend_convolution(const Stream& stream, CausalConvForward args, Tensor& rows);

}  // namespace causeway
