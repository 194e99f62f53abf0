#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/descriptor.hpp"

struct z_stream_s;

namespace causeway {

/// The path that means standard input, as programs of text have it. A file of this name is "./-".
inline constexpr std::string_view standard_input = "-";

/// Reads a file's bytes in order, and inflates them if the file starts as gzip does (RFC 1952). Several members form
/// one text; zeros after the last member are padding. Throws Error(usage) for damage, for a file that ends within a
/// member, and for other bytes after the last member. zlib's gzFile is not used, because it reports no error if a read
/// ends exactly at the end of a truncated file, and treats a member with a damaged first byte as the end of the file.
class GzipFile {
 public:
  /// Keeps about `buffer_bytes` of the file in memory.
  GzipFile(const std::string& path, std::size_t buffer_bytes);
  ~GzipFile();
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  bool is_standard_input() const { return is_standard_input_; }
  bool compressed() const { return stream_ != nullptr; }
  std::int64_t offset() const { return offset_; }  ///< bytes of the file read so far

  /// Fills `out`; returns the bytes read, fewer than out.size() only at the end.
  std::size_t read(std::span<char> out);

 private:
  struct InflateEnd {
    void operator()(z_stream_s* stream) const noexcept;
  };

  bool fill();
  void skip_padding();
  std::size_t inflate_into(std::span<char> out);

  std::string path_;
  bool is_standard_input_;
  Descriptor file_;
  std::vector<unsigned char> buffer_;
  std::span<unsigned char> unused_;  ///< the part of the buffer that is not consumed yet
  std::unique_ptr<z_stream_s, InflateEnd> stream_;
  bool inside_member_ = true, ended_ = false;
  std::int64_t offset_ = 0;
};

}  // namespace causeway
