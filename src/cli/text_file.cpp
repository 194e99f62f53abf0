#include "src/cli/text_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/file/descriptor.hpp"
#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

std::string read_bytes(const std::string& path, std::string_view option, std::size_t limit) {
  const auto kind = kind_of(path);
  require(kind != std::filesystem::file_type::not_found, "{}: '{}': {}", option, path, why_missing(path));
  require(kind != std::filesystem::file_type::directory, "{}: '{}' is a directory, expected a file", option, path);
  const std::string where = fmt::format("{}: {}", option, path);
  const Descriptor file(posix_check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), where, "open"));
  std::string text;
  for (std::size_t step = 4096; text.size() <= limit; step = text.size()) {
    const std::size_t before = text.size();
    text.resize(before + step);
    ssize_t count = 0;
    do count = ::read(file.get(), text.data() + before, step);
    while (count < 0 && errno == EINTR);
    posix_check(static_cast<int>(count), where, "read");
    text.resize(before + static_cast<std::size_t>(count));
    if (count == 0) break;
  }
  require(text.size() <= limit, "{}: '{}' has more than {} bytes", option, path, limit);
  return text;
}

std::string read_text(const std::string& path, std::string_view option, std::size_t limit) {
  std::string text = read_bytes(path, option, limit);
  require(text.find('\0') == std::string::npos, "{}: '{}' contains a zero byte, expected a text file", option, path);
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  return text.starts_with(byte_order_mark) ? text.substr(byte_order_mark.size()) : text;
}

}  // namespace causeway
