#include "io/hdf5/check.hpp"

#include <hdf5.h>

#include <filesystem>

namespace causeway::hdf5 {

Quiet::Quiet() {
  // HDF5 1.10 leaks a little where a structure's checksum is wrong, and its clean-up at exit then complains of an
  // infinite loop on standard error. Owners close everything before, so nothing needs that clean-up. Has an effect only
  // before HDF5 is first used.
  H5dont_atexit();
  H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Quiet::~Quiet() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

namespace {

/// HDF5 tells what the system refused in two lines with addresses and byte counts: what it did and the system's reason
/// are kept.
std::string readable(const std::string& cause) {
  constexpr std::string_view before = "error message = '";
  const auto quoted = cause.find(before);
  if (quoted == std::string::npos) return cause;
  const auto begin = quoted + before.size();
  return fmt::format("{}: {}", cause.substr(0, cause.find(':')), cause.substr(begin, cause.find('\'', begin) - begin));
}

}  // namespace

void report(std::string_view where, std::string_view doing, ExitCode code, std::source_location location) {
  // The innermost function names the cause; the outer ones only repeat that something failed.
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
