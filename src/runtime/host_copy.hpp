#pragma once

#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// A dense view's elements in host memory that the device can reach by itself; there when this returns, which waits for
/// the stream.
Tensor on_host(const Stream& stream, TensorView x);

/// The elements of a dense view of floating numbers, converted to T = double or float; waits for the stream.
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

/// Host values as a tensor in the stream's memory; they may change as soon as this returns, which does not wait.
template <class T>
Tensor on_device(const Stream& stream, std::span<const T> values) {
  Tensor tensor(stream, dtype_of<T>, {std::ssize(values)});
  stream.upload(tensor.view().data, values.data(), tensor.view().bytes());
  return tensor;
}

}  // namespace causeway
