#include "src/model/decode_state.hpp"

#include <algorithm>

#include "kernels/reorder.hpp"

namespace causeway {

Tensor last_rows(const Stream& stream, TensorView before, TensorView x) {
  const std::int64_t rows = before.rows(), fresh = std::min(rows, x.rows()), kept = rows - fresh;
  Tensor after(stream, before.dtype, before.shape);
  const RowRange old_rows{.from = fresh, .to = 0, .count = kept}, new_rows{x.rows() - fresh, kept, fresh};
  copy_rows(stream, {.x = before, .ranges = {&old_rows, 1}, .y = after});
  copy_rows(stream, {.x = x, .ranges = {&new_rows, 1}, .y = after});
  return after;
}

void extend_convolution(const Stream& stream, CausalConvForward args, Tensor& halo) {
  if (halo.view().rows() > 0) args.halo = halo;
  causal_conv_forward(stream, args);
  halo = last_rows(stream, halo, args.x);
}

}  // namespace causeway
