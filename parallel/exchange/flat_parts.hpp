#pragma once

#include <optional>
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
/// scratch memory. The ranks are added in their order, as Transport's reductions add them: the bits are the same.
///
/// `reduce_dtype` another type than the buffers': what is sent is rounded to it, which halves the bytes for bf16. A
/// rank's own part is not rounded, and the sums are computed in the buffers' type.
class SumOfParts {
 public:
  SumOfParts() = default;
  /// `whole` must not change before finish(), which reads it unless it was rounded.
  SumOfParts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream,
             std::optional<DType> reduce_dtype = {});
  /// Writes the sums to the parts, or with `add` adds them. Enqueues on the stream on which it was started.
  void finish(bool add, const Stream& stream);
  /// Whether finish() reads the buffers.
  bool reads_buffers() const;

 private:
  struct Buffer {
    TensorView part;        ///< where the sum goes
    TensorView own;         ///< this rank's part of the buffer, before the sum
    Tensor received;        ///< [ranks, elements of a part], as sent
    Tensor sent, own_copy;  ///< of a buffer that is rounded; else absent
  };
  std::vector<Buffer> buffers_;
  int rank_ = 0;
  Pending pending_;  // destroyed first, which waits
};

/// Bytes that a SumOfParts holds of buffers with so many elements altogether, at most.
std::int64_t bytes_of_sum(std::int64_t elements, DType dtype, int ranks, std::optional<DType> reduce_dtype);

}  // namespace causeway
