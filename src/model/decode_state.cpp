#include "src/model/decode_state.hpp"

#include <algorithm>

#include "kernels/reorder.hpp"

namespace causeway {

DocumentState copy_of(const Stream& stream, const DocumentState& document) {
  DocumentState copy{.tokens = document.tokens, .sublayers = {}};
  for (const DecodeState& state : document.sublayers) {
    DecodeState& to = copy.sublayers.emplace_back();
    for (const Tensor& cached : state.cache) {
      Tensor& same = to.cache.emplace_back(stream, cached.view().dtype, cached.view().shape);
      stream.copy(same.view().data, cached.view().data, cached.view().bytes());
    }
  }
  return copy;
}

Tensor last_rows(const Stream& stream, TensorView before, TensorView x) {
  const std::int64_t rows = before.rows(), from_x = std::min(rows, x.rows()), from_before = rows - from_x;
  Tensor after(stream, before.dtype, before.shape);
  const RowRange old_rows{.from = from_x, .to = 0, .count = from_before};
  const RowRange new_rows{.from = x.rows() - from_x, .to = from_before, .count = from_x};
  copy_rows(stream, {.x = before, .ranges = {&old_rows, 1}, .y = after});
  copy_rows(stream, {.x = x, .ranges = {&new_rows, 1}, .y = after});
  return after;
}

void extend_convolution(const Stream& stream, CausalConvForward args, Tensor& rows) {
  if (rows.view().rows() > 0) args.halo = rows;
  causal_conv_forward(stream, args);
  rows = last_rows(stream, rows, args.x);
}

}  // namespace causeway
