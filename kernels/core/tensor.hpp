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

/// Up to four extents, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t size() const;      ///< number of elements; 1 for a scalar (rank 0)
  std::int64_t row_size() const;  ///< elements of one row: all extents but the first
  Shape with_rows(std::int64_t rows) const;
  std::string to_string() const;  ///< "[3, 4]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 4> extents_{};
  int rank_ = 0;
};

/// Somebody else's elements, row-major; only the rows may stand further apart than they are long (`row_stride`), as the
/// columns [begin, end) of a wider matrix do. Passed by value. A default-constructed view is "absent": how optional
/// arguments are left out.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t row_stride = 0;  ///< elements from one row to the next

  bool present() const { return shape.rank() > 0; }
  bool dense() const { return row_stride == shape.row_size(); }
  std::int64_t rows() const { return shape[0]; }
  std::int64_t columns() const { return shape.row_size(); }
  std::int64_t size() const { return present() ? shape.size() : 0; }
  std::int64_t bytes() const { return size() * size_of(dtype); }

  template <class T>
  T* row(std::int64_t index) const {
    return static_cast<T*>(data) + index * row_stride;
  }
  /// The elements of a dense view as a span; T must match dtype.
  template <class T>
  std::span<T> as() const {
    ensure(dtype_of<T> == dtype && (dense() || rows() <= 1), "tensor {} of {} is not a dense {}", shape.to_string(),
           name_of(dtype), name_of(dtype_of<T>));
    return {static_cast<T*>(data), static_cast<std::size_t>(size())};
  }
  /// The raw bytes of a dense view, for transports and files.
  std::span<std::byte> as_bytes() const;

  TensorView slice_rows(std::int64_t begin, std::int64_t count) const;
  TensorView slice_columns(std::int64_t begin, std::int64_t count) const;  ///< of a [rows, columns] view
  TensorView reshaped(Shape to) const;                                     ///< of a dense view, same number of elements
};

/// A dense view of memory that belongs to somebody else.
TensorView view_of(void* data, DType dtype, Shape shape);

/// Owns the elements of one dense tensor in a stream's memory. Fresh tensors are not initialised.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Stream& stream, DType dtype, Shape shape);
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor();

  static Tensor zeros(const Stream& stream, DType dtype, Shape shape);

  TensorView view() const { return view_; }
  operator TensorView() const { return view_; }  // NOLINT: an owner may stand wherever a view is asked for
  bool present() const { return view_.present(); }

 private:
  std::shared_ptr<MemoryPool> memory_;
  TensorView view_;
};

}  // namespace causeway
