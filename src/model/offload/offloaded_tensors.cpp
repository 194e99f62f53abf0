#include "src/model/offload/offloaded_tensors.hpp"

#include <algorithm>
#include <bit>
#include <exception>
#include <utility>

#include "kernels/core/integer.hpp"

namespace causeway {

OffloadedTensors::OffloadedTensors(const Stream& stream) : stream_(stream), copies_(stream.side_stream()) {}

/// As ~OffloadedAdamW: nothing may use memory of the host that is released.
OffloadedTensors::~OffloadedTensors() {
  if (std::uncaught_exceptions() > 0) return;
  try {
    copies_.wait();
  } catch (const std::exception&) {  // of a device that failed: nothing runs there any more
  }
}

void OffloadedTensors::clear() {
  free_left();
  if (returning_) static_cast<void>(take());
  depth_ = 0;
}

void OffloadedTensors::reserve(std::int64_t count, std::int64_t bytes) {
  places_.resize(std::max(places_.size(), static_cast<std::size_t>(count)));
  for (Place& place : places_) provide(place, bytes);
}

void OffloadedTensors::provide(Place& place, std::int64_t bytes) {
  if (place.memory.view().bytes() >= bytes) return;
  copies_.wait();  // in the first steps only; the old memory may be in use
  place.memory = {};
  place.memory = Tensor(stream_.host(), DType::u8, {capacity(bytes)});
}

void OffloadedTensors::leave(Tensor tensor) {
  constexpr std::size_t most = 2;
  const TensorView view = tensor;
  if (depth_ == places_.size()) places_.emplace_back();
  Place& place = places_[depth_++];
  provide(place, view.bytes());
  place.dtype = view.dtype;
  place.shape = view.shape;
  for (; leaving_.size() >= most; leaving_.pop_front()) leaving_.front().copied.block(stream_);
  Event(stream_).block(copies_);
  copies_.copy(place.memory.view().data, view.as_bytes().data(), view.bytes());
  leaving_.push_back({std::move(tensor), Event(copies_)});
}

void OffloadedTensors::free_left() {
  for (; !leaving_.empty(); leaving_.pop_front()) leaving_.front().copied.block(stream_);
}

void OffloadedTensors::start_return() {
  if (depth_ == 0 || returning_) return;
  const Place& place = places_[--depth_];
  Tensor tensor(stream_, place.dtype, place.shape);
  Event(stream_).block(copies_);  // its memory may have had another use
  copies_.copy(tensor.view().data, place.memory.view().data, tensor.view().bytes());
  returning_.emplace(Moving{std::move(tensor), Event(copies_)});
}

Tensor OffloadedTensors::take() {
  ensure(returning_.has_value(), "no offloaded tensor is returning");
  returning_->copied.block(stream_);
  Tensor tensor = std::move(returning_->tensor);
  returning_.reset();
  return tensor;
}

/// Rounded up, so that tensors of about the same size, which packs of about the same length have, use the same memory.
std::int64_t OffloadedTensors::capacity(std::int64_t bytes) {
  const auto power = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes)));
  return round_up(bytes, std::max<std::int64_t>(1, power / 32));
}

}  // namespace causeway
