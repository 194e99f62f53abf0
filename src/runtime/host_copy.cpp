#include "src/runtime/host_copy.hpp"

namespace causeway {

Tensor on_host(const Stream& stream, TensorView x) {
  ensure(x.dense() || x.rows() <= 1, "a copy to the host needs a dense tensor, found {} with a row stride of {}",
         x.shape.to_string(), x.row_stride);
  Tensor copy(stream.host(), x.dtype, x.shape);
  stream.copy(copy.view().data, x.data, x.bytes());
  stream.wait();
  return copy;
}

}  // namespace causeway
