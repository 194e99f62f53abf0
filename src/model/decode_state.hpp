#pragma once

#include <cstdint>
#include <vector>

#include "kernels/causal_conv.hpp"
#include "kernels/core/segments.hpp"

namespace causeway {

/// The state that a sublayer keeps after the tokens of one document so far, in order to compute the next tokens: the
/// last input rows of a convolution, the SSM state of a scan, the key/value cache of attention.
struct DecodeState {
  std::vector<Tensor> cache;  ///< in an order that the sublayer defines; empty before the first token
};

/// The decode states of all sublayers for one document; empty before the first token. Their size does not depend on
/// the document's length, except for attention's key/value caches.
struct DocumentState {
  std::int64_t tokens = 0;  ///< of the document so far
  std::vector<DecodeState> sublayers;
};

/// A copy, so that a document can be continued in several ways.
DocumentState copy_of(const Stream& stream, const DocumentState& document);

/// The next tokens of one document: rows [first_row, first_row + count) of tensors that hold those of several.
struct NextTokens {
  DecodeState& state;
  SegmentsView segments;    ///< of these tokens, as a run
  std::int64_t before = 0;  ///< tokens of the document before them
  std::int64_t first_row = 0, count = 0;
  TensorView rows(TensorView x) const { return x.slice_rows(first_row, count); }
};

/// The last before.rows() rows of `before` followed by `x`: a convolution's rows before the next token.
Tensor last_rows(const Stream& stream, TensorView before, TensorView x);

/// The convolution of the next tokens. `rows` [W-1, D] are the input rows before them, and then the last ones of
/// those rows and args.x.
void extend_convolution(const Stream& stream, CausalConvForward args, Tensor& rows);

}  // namespace causeway
