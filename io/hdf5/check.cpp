#include "io/hdf5/check.hpp"

#include <hdf5.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "io/file/descriptor.hpp"

namespace causeway::hdf5 {

SilencedErrors::SilencedErrors() {
  // libHDF5 1.10 leaks some objects after it found a wrong checksum. Its clean-up at exit then prints an "infinite
  // loop" error. The owners close everything earlier, so the clean-up is not needed. This call has an effect only
  // before libHDF5 is first used.
  H5dont_atexit();
  H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

SilencedErrors::~SilencedErrors() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

namespace {

/// For a failed system call libHDF5 gives two lines with addresses and byte counts. Keeps the call and the system's
/// reason.
std::string readable(const LibraryError& error) {
  if (error.cause.empty()) return "HDF5 gives no reason";
  if (error.system_error == 0) return error.cause;
  return fmt::format("{}: {}", error.cause.substr(0, error.cause.find_first_of(":,")),
                     std::strerror(error.system_error));
}

/// What a person can do about a lock that cannot be had.
std::string lock_advice(int error) {
  if (means_no_locks(error))
    return "; the file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE in the environment";
  const char* const reason =
      error == EAGAIN || error == EACCES ? "another program has the file open: wait until it closes it" : "try again";
  return fmt::format("; {}, or set HDF5_USE_FILE_LOCKING=FALSE in the environment to open it without a lock", reason);
}

}  // namespace

LibraryError last_error() {
  LibraryError found;
  const auto keep_first = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    auto& kept = *static_cast<LibraryError*>(out);
    kept.cause = error->desc == nullptr ? "" : error->desc;
    kept.no_memory = error->maj_num == H5E_RESOURCE && kept.cause.starts_with("memory allocation failed");
    return 1;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &found);
  constexpr std::string_view before = "errno = ";
  if (const auto at = found.cause.find(before); at != std::string::npos)
    std::from_chars(found.cause.data() + at + before.size(), found.cause.data() + found.cause.size(),
                    found.system_error);
  found.locking = found.cause.find("lock file") != std::string::npos || found.cause.starts_with("file locking");
  return found;
}

void throw_hdf5_error(std::string_view where, std::string_view doing, ExitCode code, std::source_location location) {
  const LibraryError error = last_error();
  if (error.system_error != 0) code = ExitCode::io;
  if (error.no_memory) code = ExitCode::internal;
  fail(code, "{}: cannot {}: {}{} ({}:{})", where, doing, readable(error),
       error.locking && error.system_error != 0 ? lock_advice(error.system_error) : "",
       std::filesystem::path(location.file_name()).filename().string(), location.line());
}

}  // namespace causeway::hdf5
