#pragma once

#include <string_view>

#include "kernels/core/error.hpp"
#include "kernels/core/stream.hpp"
#include "kernels/core/trace.hpp"

namespace causeway {

/// One operation and its implementation on each device. This is the only place where a device is chosen. kernels/cpu/
/// holds the specification, whose code follows the formula; kernels/cuda/ holds the fast version; kernels/registry.cpp
/// pairs them.
template <class Args>
struct Kernel {
  using Function = void (*)(const Stream&, const Args&);
  std::string_view name;
  Function cpu;
  Function cuda;  ///< nullptr in a build without CUDA

  /// Runs it on the stream's device, as a span of the stream's trace if it has one. Throws Error(usage) if this build
  /// has no implementation there.
  void operator()(const Stream& stream, const Args& args) const {
    const Function run = stream.device() == Device::cuda ? cuda : cpu;
    require(run != nullptr, "{} has no implementation on {}", name, name_of(stream.device()));
    const TracedScope traced(stream, name, "operator");
    run(stream, args);
  }
};

}  // namespace causeway
