#pragma once

#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// Copies a dense view's elements to page-locked host memory; waits for the stream.
Tensor on_host(const Stream& stream, TensorView x);

/// The elements of a dense floating-point view, converted to T = double or float; waits for the stream.
template <class T>
std::vector<T> host_values(const Stream& stream, TensorView x) {
  const Tensor copy = on_host(stream, x);
  std::vector<T> values;
  values.reserve(static_cast<std::size_t>(x.size()));
  dispatch(x.dtype, [&]<class U>() {
    for (const U value : copy.view().as<U>()) values.push_back(static_cast<T>(static_cast<Accumulator<U>>(value)));
  });
  return values;
}

/// Copies host values to a tensor on the stream's device. Does not wait; the caller can change `values` as soon as this
/// returns.
template <class T>
Tensor on_device(const Stream& stream, std::span<const T> values) {
  Tensor tensor(stream, dtype_of<T>, {std::ssize(values)});
  stream.upload(tensor.view().data, values.data(), tensor.view().bytes());
  return tensor;
}

}  // namespace causeway
