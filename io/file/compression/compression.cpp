#include "io/file/compression/compression.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace causeway {
namespace {

using namespace std::string_view_literals;

bool starts_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"sv); }

/// A frame, or a frame to skip (magic 0x184D2A50 to 0x184D2A5F), which pzstd writes first.
bool starts_zstd(std::string_view bytes) {
  return bytes.starts_with("\x28\xb5\x2f\xfd"sv) ||
         (bytes.size() >= 4 && (bytes[0] & 0xf0) == 0x50 && bytes.substr(1, 3) == "\x2a\x4d\x18"sv);
}

bool starts_xz(std::string_view bytes) {
  return bytes.starts_with(
      "\xfd"
      "7zXZ\0"sv);
}

/// "BZh" and a digit could start a text: the magic of the first block, or of the end of an empty stream, has to follow.
bool starts_bzip2(std::string_view bytes) {
  if (bytes.size() < 10 || !bytes.starts_with("BZh") || bytes[3] < '1' || bytes[3] > '9') return false;
  const std::string_view block = bytes.substr(4, 6);
  return block == "\x31\x41\x59\x26\x53\x59"sv || block == "\x17\x72\x45\x38\x50\x90"sv;
}

std::string ending_of(std::string_view path) {
  const std::size_t dot = path.find_last_of("./");
  std::string ending(dot == path.npos || path[dot] == '/' || dot == 0 ? "" : path.substr(dot));
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return ending;
}

}  // namespace

std::span<const Compression> compressions() {
  static const std::array table = {
      Compression{"gzip", {".gz", ".bgz"}, "zlib (Debian: zlib1g-dev)", "gzip -d", 1, starts_gzip, open_gzip},
      Compression{"zstd", {".zst", ".zstd"}, "libzstd (Debian: libzstd-dev)", "zstd -d", 0, starts_zstd, open_zstd},
      Compression{"xz", {".xz"}, "liblzma (Debian: liblzma-dev)", "xz -d", 4, starts_xz, open_xz},
      Compression{"bzip2", {".bz2"}, "libbz2 (Debian: libbz2-dev)", "bzip2 -d", 0, starts_bzip2, open_bzip2},
  };
  return table;
}

const Compression* compression_of_bytes(std::string_view bytes) {
  for (const Compression& compression : compressions())
    if (compression.starts(bytes)) return &compression;
  return nullptr;
}

const Compression* compression_of_name(std::string_view path) {
  const std::string ending = ending_of(path);
  if (ending.empty()) return nullptr;  // an unused entry of a row
  for (const Compression& compression : compressions())
    if (std::ranges::find(compression.endings, ending) != compression.endings.end()) return &compression;
  return nullptr;
}

std::string without_compression_ending(const std::string& path) {
  return compression_of_name(path) == nullptr ? path : path.substr(0, path.rfind('.'));
}

}  // namespace causeway
