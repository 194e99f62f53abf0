#pragma once

#include <string_view>

#include "kernels/core/tensor.hpp"

namespace causeway::cpu {

/// A kernel's argument must have this dtype and shape; throws Error(internal) naming it. The operators check what users
/// hand in before.
inline void expect(std::string_view name, TensorView view, DType dtype, Shape shape) {
  ensure(view.dtype == dtype && view.shape == shape, "{} is {} {}, expected {} {}", name, name_of(view.dtype),
         view.shape.to_string(), name_of(dtype), shape.to_string());
}

inline void expect_if_present(std::string_view name, TensorView view, DType dtype, Shape shape) {
  if (view.present()) expect(name, view, dtype, shape);
}

}  // namespace causeway::cpu
