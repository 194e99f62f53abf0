#include "io/hdf5/check.hpp"

#include <hdf5.h>

#include <filesystem>

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
std::string readable(const std::string& cause) {
  constexpr std::string_view before = "error message = '";
  const auto quoted = cause.find(before);
  if (quoted == std::string::npos) return cause;
  const auto begin = quoted + before.size();
  return fmt::format("{}: {}", cause.substr(0, cause.find(':')), cause.substr(begin, cause.find('\'', begin) - begin));
}

}  // namespace

void throw_hdf5_error(std::string_view where, std::string_view doing, ExitCode code, std::source_location location) {
  // The innermost function names the cause. The outer functions only repeat that something failed.
  std::string cause;
  const auto keep_first = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    *static_cast<std::string*>(out) = error->desc == nullptr ? "" : error->desc;
    return 1;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &cause);
  fail(code, "{}: cannot {}: {} ({}:{})", where, doing, cause.empty() ? "HDF5 gives no reason" : readable(cause),
       std::filesystem::path(location.file_name()).filename().string(), location.line());
}

}  // namespace causeway::hdf5
