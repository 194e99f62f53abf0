#pragma once

#include <utility>

#include "kernels/core/error.hpp"

namespace causeway {

/// Runs `work` on a file that Causeway itself wrote, a checkpoint's: whatever does not fit in it is damage,
/// Error(corrupt), and not a wrong input.
template <class Work>
auto damage_is_corrupt(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    throw Error(ExitCode::corrupt, error.what());
  }
}

}  // namespace causeway
