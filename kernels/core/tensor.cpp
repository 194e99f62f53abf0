#include "kernels/core/tensor.hpp"

#include <fmt/ranges.h>

#include <utility>

namespace causeway {

Shape::Shape(std::initializer_list<std::int64_t> extents) {
  ensure(extents.size() <= extents_.size(), "a tensor has at most {} axes, not {}", extents_.size(), extents.size());
  for (const std::int64_t extent : extents) {
    ensure(extent >= 0, "a tensor's extent is {}, expected at least 0", extent);
    extents_[static_cast<std::size_t>(rank_++)] = extent;
  }
}

std::int64_t Shape::size() const {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::int64_t Shape::row_size() const {
  std::int64_t product = 1;
  for (int axis = 1; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

Shape Shape::with_rows(std::int64_t rows) const {
  Shape changed = *this;
  changed.extents_[0] = rows;
  return changed;
}

std::string Shape::to_string() const {
  return fmt::format("[{}]", fmt::join(extents_.begin(), extents_.begin() + rank_, ", "));
}

// The checks below fail without ensure(), which would make the text of the shape on every call: an exchange with N
// ranks slices N times.

TensorView view_of(void* data, DType dtype, Shape shape) {
  return {.data = data, .dtype = dtype, .shape = shape, .row_stride = shape.row_size()};
}

std::span<std::byte> TensorView::as_bytes() const {
  if (!dense() && rows() > 1)
    fail(ExitCode::internal, "tensor {} has gaps between its rows, expected a dense one", shape.to_string());
  return {static_cast<std::byte*>(data), static_cast<std::size_t>(bytes())};
}

TensorView TensorView::slice_rows(std::int64_t begin, std::int64_t count) const {
  if (begin < 0 || count < 0 || begin + count > rows())
    fail(ExitCode::internal, "slice of {1} rows from row {0} of a tensor {2}", begin, count, shape.to_string());
  TensorView part = *this;
  part.data = static_cast<std::byte*>(data) + begin * row_stride * size_of(dtype);
  part.shape = shape.with_rows(count);
  return part;
}

TensorView TensorView::slice_columns(std::int64_t begin, std::int64_t count) const {
  if (shape.rank() != 2 || begin < 0 || count < 0 || begin + count > columns())
    fail(ExitCode::internal, "slice of {1} columns from column {0} of a tensor {2}", begin, count, shape.to_string());
  TensorView part = *this;
  part.data = static_cast<std::byte*>(data) + begin * size_of(dtype);
  part.shape = {rows(), count};
  return part;
}

TensorView TensorView::reshaped(Shape to) const {
  if (!dense() || to.size() != size())
    fail(ExitCode::internal, "tensor {} cannot be reshaped to {}", shape.to_string(), to.to_string());
  return view_of(data, dtype, to);
}

Tensor::Tensor(const Stream& stream, DType dtype, Shape shape)
    : memory_(stream.shared_memory()), view_(view_of(nullptr, dtype, shape)) {
  view_.data = memory_->allocate(view_.bytes());
}

Tensor::Tensor(Tensor&& other) noexcept : memory_(std::move(other.memory_)), view_(std::exchange(other.view_, {})) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(view_, other.view_);
  return *this;
}

Tensor::~Tensor() {
  if (memory_ != nullptr) memory_->release(view_.data, view_.bytes());
}

Tensor Tensor::zeros(const Stream& stream, DType dtype, Shape shape) {
  Tensor tensor(stream, dtype, shape);
  stream.zero(tensor.view_.data, tensor.view_.bytes());
  return tensor;
}

}  // namespace causeway
