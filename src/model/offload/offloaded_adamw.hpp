#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "kernels/adamw.hpp"

namespace causeway {

/// AdamW whose master weights and moments are in host memory, while gradients and weights are on the stream's device.
/// Gradients are copied to the host a piece at a time, the CPU's kernel updates the piece, and its weights are copied
/// back. Two queues beside the stream take turns: one copies while the other computes, and both run beside what the
/// stream is given later. The bits are those of AdamW on the device. On the CPU all of it happens at once.
class OffloadedAdamW {
 public:
  static constexpr std::int64_t default_piece = std::int64_t{1} << 22;  ///< elements

  explicit OffloadedAdamW(const Stream& stream, std::int64_t piece = default_piece);
  ~OffloadedAdamW();
  OffloadedAdamW(const OffloadedAdamW&) = delete;
  OffloadedAdamW& operator=(const OffloadedAdamW&) = delete;

  /// A step begins, after what the stream has been given so far. `factor`: as AdamW's, on the device. The updates of
  /// the step before must be done for the stream.
  void begin(TensorView factor);
  /// Enqueues the update of some elements. `gradient` and `weights` are on the device and must not change before it is
  /// done; `factor` is begin()'s.
  void update(AdamW args);
  /// Makes what is enqueued on a stream later wait for all updates up to now.
  std::function<void(const Stream&)> done() const;

  /// Bytes of host memory for pieces on their way, of a shard of so many elements in this accumulator type.
  static std::int64_t staging_bytes(std::int64_t elements, DType wide);

 private:
  struct Queue {
    Stream stream;
    Tensor factor, gradient, weights;  ///< on the host
  };
  void stage(Queue& queue, std::int64_t bytes) const;

  const Stream& stream_;
  const Stream host_;
  std::int64_t piece_;
  std::array<Queue, 2> queues_;
  std::size_t next_ = 0;
};

}  // namespace causeway
