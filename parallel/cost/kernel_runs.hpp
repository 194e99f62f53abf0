#pragma once

#include <functional>
#include <vector>

#include "parallel/cost/cost.hpp"
#include "parallel/cost/operator_arguments.hpp"

namespace causeway {

/// The part of a pack on which kernels are timed.
struct TimedShape {
  std::int64_t local_tokens = 0;      ///< of a rank
  std::int64_t longest_document = 0;  ///< of the pack
  int ranks = 1;                      ///< that share the channels where each has whole documents
};

/// The kernels that the strategies of an operator run, in both passes.
std::vector<TimedKernel> kernels_of(const OperatorArguments& call, const TimedShape& shape);

/// A kernel on random tensors of its own, ready to run any number of times.
struct KernelRun {
  double elements = 0;  ///< as KernelWork counts them
  std::function<void()> run;
};

/// Allocates the tensors of a call of one of kernels_of(). They have the shape's tokens, or as many as a device needs
/// to be busy. `small`: a sixteenth of the elements, to separate the time of a call from that of its elements.
KernelRun prepare_run(const Stream& stream, const OperatorArguments& call, const TimedKernel& kernel,
                      const TimedShape& shape, bool small);

}  // namespace causeway
