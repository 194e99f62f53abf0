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

/// The last error of libHDF5 in this thread. Its innermost function names the cause; the outer ones only repeat that
/// something failed.
struct LibraryError {
  std::string cause;       ///< the innermost function's message; "" without an error
  int system_error = 0;    ///< errno of a system call that failed; 0 for another cause
  bool locking = false;    ///< the file could not be locked, or is open in this process with other settings of locks
  bool no_memory = false;  ///< memory could not be allocated
};
LibraryError last_error();

/// Throws Error: "file.h5:/x: cannot read: the message of libHDF5's innermost function (hdf5.cpp:123)". A failed system
/// call says nothing about the file's content: it is Error(io), whatever `code` is.
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
