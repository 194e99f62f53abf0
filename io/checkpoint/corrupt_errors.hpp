#pragma once

#include <utility>

#include "io/hdf5_guard/hdf5_guard.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

/// Calls `work`, which reads a file that Causeway wrote (a checkpoint). There a wrong form means damage, not a wrong
/// input: an Error(usage) from `work` becomes Error(corrupt). A file in another form of HDF5, for example after
/// h5repack, stays UnsupportedFile.
template <class Work>
auto usage_errors_as_corrupt(Work&& work) {
  try {
    return std::forward<Work>(work)();
  } catch (const UnsupportedFile&) {
    throw;
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    throw Error(ExitCode::corrupt, error.what());
  }
}

}  // namespace causeway
