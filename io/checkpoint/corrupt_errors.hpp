#pragma once

#include <utility>

#include "kernels/core/error.hpp"

namespace causeway {

/// Calls `work`, which reads a file that Causeway wrote (a checkpoint). There a wrong form means damage, not a wrong
/// input: an Error(usage) from `work` becomes Error(corrupt).
template <class Work>
auto usage_errors_as_corrupt(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    throw Error(ExitCode::corrupt, error.what());
  }
}

}  // namespace causeway
