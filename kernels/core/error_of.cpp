#include "kernels/core/error_of.hpp"

#include <filesystem>
#include <new>
#include <system_error>

namespace causeway {

Error error_of(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) return {ExitCode::internal, "out of memory"};
  if (const auto* refused = dynamic_cast<const std::filesystem::filesystem_error*>(&exception)) {
    const std::string path = refused->path1().string();
    return {ExitCode::io, path.empty() ? refused->what() : fmt::format("{}: {}", path, refused->code().message())};
  }
  if (const auto* refused = dynamic_cast<const std::system_error*>(&exception);
      refused != nullptr && refused->code() == std::errc::resource_unavailable_try_again)
    return {ExitCode::internal,
            fmt::format("the system refused a thread: {}; ulimit -u limits their number", refused->code().message())};
  return {ExitCode::internal, fmt::format("internal error: {}", exception.what())};
}

}  // namespace causeway
