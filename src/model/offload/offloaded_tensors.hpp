#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "kernels/core/event.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// A stack of tensors that are in host memory while the stream's device does not need them. They leave and return on
/// a queue of their own, beside what the stream computes: up to two are leaving at one time, one is returning. The
/// stream waits for a copy, the host does not. Host memory is page-locked, and kept from pass to pass.
class OffloadedTensors {
 public:
  explicit OffloadedTensors(const Stream& stream);
  ~OffloadedTensors();
  OffloadedTensors(const OffloadedTensors&) = delete;
  OffloadedTensors& operator=(const OffloadedTensors&) = delete;

  /// Gets the host memory of so many tensors of up to so many bytes now. Without it each place gets its memory when a
  /// tensor first leaves for it, while the device waits.
  void reserve(std::int64_t count, std::int64_t bytes);
  /// A pass begins: the stack is empty.
  void clear();
  /// A dense tensor leaves. Its memory stays as it is until the next but one leaves, or free_left(): what the stream is
  /// given until then may read it.
  void leave(Tensor tensor);
  /// The memory of all that have left is free.
  void free_left();
  /// The tensor that left last begins to return, if there is one and none is returning.
  void start_return();
  /// Removes the tensor that is returning.
  Tensor take();

  /// Bytes of host memory for a tensor of so many bytes.
  static std::int64_t capacity(std::int64_t bytes);

 private:
  struct Place {
    Tensor memory;
    DType dtype = DType::f32;
    Shape shape;
  };
  struct Moving {
    Tensor tensor;
    Event copied;
  };
  /// Gives a place memory for so many bytes, if it has less.
  void provide(Place& place, std::int64_t bytes);

  Stream stream_, copies_;
  std::vector<Place> places_;  // the stack, and unused memory above it
  std::size_t depth_ = 0;
  std::deque<Moving> leaving_;  // oldest first
  std::optional<Moving> returning_;
};

}  // namespace causeway
