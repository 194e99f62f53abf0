#pragma once

#include <string_view>

#include "kernels/core/tensor.hpp"

/// Checks of a kernel's arguments, for both devices. They detect defects of Causeway. The callers of kernels have
/// already checked the input of users.
namespace causeway {

/// Throws Error(internal) that names the argument, what it is and what was expected, unless it has this dtype and
/// shape.
inline void expect(std::string_view name, TensorView view, DType dtype, Shape shape) {
  ensure(view.dtype == dtype && view.shape == shape, "{} is {} {}, expected {} {}", name, name_of(view.dtype),
         view.shape.to_string(), name_of(dtype), shape.to_string());
}

/// The same for an optional argument.
inline void expect_if_present(std::string_view name, TensorView view, DType dtype, Shape shape) {
  if (view.present()) expect(name, view, dtype, shape);
}

/// The same for an argument that may be stored in `dtype` or in its accumulator type.
inline void expect_dtype_or_accumulator(std::string_view name, TensorView view, DType dtype, Shape shape) {
  expect(name, view, view.dtype == accumulator_of(dtype) ? view.dtype : dtype, shape);
}

}  // namespace causeway
