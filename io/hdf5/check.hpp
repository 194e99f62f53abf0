#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway::hdf5 {

/// Keeps libHDF5 from printing its errors to standard error, as long as the object exists. In a thread-safe libHDF5
/// this is for the calling thread only.
class SilencedErrors {
 public:
  SilencedErrors();
  ~SilencedErrors();
  SilencedErrors(const SilencedErrors&) = delete;
  SilencedErrors& operator=(const SilencedErrors&) = delete;

 private:
  int (*function_)(std::int64_t, void*) = nullptr;
  void* data_ = nullptr;
};

/// Throws Error: "file.h5:/x: cannot read: the message of libHDF5's innermost function (hdf5.cpp:123)".
[[noreturn]] void throw_hdf5_error(std::string_view where, std::string_view doing, ExitCode code,
                                   std::source_location location);

/// Checks the result of a call of libHDF5: throws Error where it is negative. `doing` completes "cannot …".
template <class Result>
Result check(Result result, std::string_view where, std::string_view doing, ExitCode code,
             std::source_location location = std::source_location::current()) {
  if (result < 0) throw_hdf5_error(where, doing, code, location);
  return result;
}

}  // namespace causeway::hdf5
