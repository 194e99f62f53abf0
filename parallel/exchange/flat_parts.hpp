#pragma once

#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A flat buffer that is cut into one equal part for each rank, and this rank's part, which can be in the buffer or
/// elsewhere.
struct FlatParts {
  TensorView whole;  ///< [ranks · elements of a part], dense
  TensorView part;   ///< [elements of a part], dense, the same dtype
};

/// Every rank's part goes to its place in `whole` on every rank. One exchange.
Pending start_gather_of_parts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream);

/// The adjoint, in flight: the sum over the ranks of their buffers, of which each rank gets its part. One exchange into
/// scratch memory as large as the buffers. The ranks are added in their order, as Transport's reductions add them: the
/// bits are the same.
class SumOfParts {
 public:
  SumOfParts() = default;
  /// `whole` must not change before finish().
  SumOfParts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream);
  /// Writes the sums to the parts, or with `add` adds them. Enqueues on the stream on which it was started.
  void finish(bool add, const Stream& stream);

 private:
  std::vector<FlatParts> buffers_;
  std::vector<Tensor> received_;  // of each buffer: [ranks, elements of a part]
  int rank_ = 0;
  Pending pending_;  // destroyed first, which waits
};

}  // namespace causeway
