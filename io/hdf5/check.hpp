#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway::hdf5 {

/// Turns HDF5's own printing of errors off while it lives; the setting belongs to the thread in a thread-safe library.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  int (*function_)(std::int64_t, void*) = nullptr;
  void* data_ = nullptr;
};

/// Throws Error: "file.h5:/x: cannot read: what HDF5's innermost function said (hdf5.cpp:123)".
[[noreturn]] void report(std::string_view where, std::string_view doing, ExitCode code, std::source_location location);

/// The checker of every HDF5 call: negative is failure.
template <class Result>
Result check(Result result, std::string_view where, std::string_view doing, ExitCode code,
             std::source_location location = std::source_location::current()) {
  if (result < 0) report(where, doing, code, location);
  return result;
}

}  // namespace causeway::hdf5
