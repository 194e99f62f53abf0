#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "kernels/core/dtype.hpp"
#include "kernels/core/stream.hpp"

namespace causeway {

/// The extents of a tensor: up to four, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t size() const;                 ///< number of elements; 1 for a scalar (rank 0)
  std::int64_t row_size() const;             ///< elements of one row: the product of all extents but the first
  Shape with_rows(std::int64_t rows) const;  ///< the same with another first extent
  std::string to_string() const;             ///< "[3, 4]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 4> extents_{};
  int rank_ = 0;
};

/// A view of the elements of a tensor, row-major; it owns nothing. The distance between rows (`row_stride`) may be
/// larger than a row, so that the columns [begin, end) of a wider matrix are also a view. All other axes are
/// contiguous. Passed by value. A default-constructed view is "absent": an optional argument that is left out.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t row_stride = 0;  ///< elements from the start of one row to the start of the next

  bool present() const { return shape.rank() > 0; }
  /// Without gaps between the rows.
  bool dense() const { return row_stride == shape.row_size(); }
  std::int64_t rows() const { return shape[0]; }
  std::int64_t columns() const { return shape.row_size(); }
  std::int64_t size() const { return present() ? shape.size() : 0; }
  std::int64_t bytes() const { return size() * size_of(dtype); }

  /// The first element of a row; T must match dtype (unchecked).
  template <class T>
  T* row(std::int64_t index) const {
    return static_cast<T*>(data) + index * row_stride;
  }
  /// The elements of a dense view as a span. Throws Error(internal) if there are gaps or T does not match dtype.
  template <class T>
  std::span<T> as() const {
    ensure(dtype_of<T> == dtype && (dense() || rows() <= 1), "tensor {} of {} is not a dense {}", shape.to_string(),
           name_of(dtype), name_of(dtype_of<T>));
    return {static_cast<T*>(data), static_cast<std::size_t>(size())};
  }
  /// The raw bytes of a dense view, for transports and files. Throws Error(internal) if there are gaps.
  std::span<std::byte> as_bytes() const;

  // These throw Error(internal) if the result would not lie within this view.
  TensorView slice_rows(std::int64_t begin, std::int64_t count) const;
  TensorView slice_columns(std::int64_t begin, std::int64_t count) const;  ///< of a [rows, columns] view
  TensorView reshaped(Shape to) const;                                     ///< of a dense view, same number of elements
};

/// A dense view of `data`, which must hold that many elements and outlive the view.
TensorView view_of(void* data, DType dtype, Shape shape);

/// Owns the elements of one dense tensor, in the memory pool of a stream. Movable; a moved-from tensor is absent. The
/// elements of a new tensor are uninitialised.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Stream& stream, DType dtype, Shape shape);
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor();

  static Tensor zeros(const Stream& stream, DType dtype, Shape shape);

  TensorView view() const { return view_; }
  operator TensorView() const { return view_; }  // NOLINT: an owner converts to a view implicitly
  bool present() const { return view_.present(); }

 private:
  std::shared_ptr<MemoryPool> memory_;
  TensorView view_;
};

}  // namespace causeway
