#include "src/cli/text_file.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "kernels/core/error.hpp"

namespace causeway {

std::string read_bytes(const std::string& path, std::string_view option, std::size_t limit) {
  std::error_code ignored;
  require(!std::filesystem::is_directory(path, ignored), "{}: '{}' is a directory, expected a file", option, path);
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "{}: cannot open '{}'", option, path);
  std::string text;
  for (std::size_t step = 4096; file && text.size() <= limit; step = text.size()) {
    const std::size_t before = text.size();
    text.resize(before + step);
    file.read(text.data() + before, static_cast<std::streamsize>(step));
    text.resize(before + static_cast<std::size_t>(file.gcount()));
  }
  require(!file.bad(), "{}: cannot read '{}'", option, path);
  require(text.size() <= limit, "{}: '{}' has more than {} bytes", option, path, limit);
  return text;
}

std::string read_text(const std::string& path, std::string_view option, std::size_t limit) {
  std::string text = read_bytes(path, option, limit);
  require(text.find('\0') == std::string::npos, "{}: '{}' contains a zero byte, expected a text file", option, path);
  return text;
}

}  // namespace causeway
