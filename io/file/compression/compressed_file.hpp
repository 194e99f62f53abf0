#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/compression/compression.hpp"
#include "io/file/descriptor.hpp"

namespace causeway {

/// The path that means standard input, as programs of text have it. A file of this name is "./-".
inline constexpr std::string_view standard_input = "-";

/// Reads a file's bytes in order, and decompresses them if the file starts as a compressed one does, whatever its name
/// is. Several members (gzip), frames (zstd) or streams (xz, bzip2) form one text; zeros after the last one are padding
/// where the format has it. Throws Error(usage) for damage, for a file that ends within a member, for other bytes after
/// the last member, for an uncompressed file whose name ends as a compressed one's, and for a format whose library this
/// program was built without.
class CompressedFile {
 public:
  /// Keeps about `buffer_bytes` of the file in memory.
  CompressedFile(const std::string& path, std::size_t buffer_bytes);

  bool is_standard_input() const { return is_standard_input_; }
  bool compressed() const { return decompressor_ != nullptr; }
  std::int64_t offset() const { return offset_; }  ///< bytes of the file read so far, compressed ones if it is

  /// Fills `out`; returns the bytes read, fewer than out.size() only at the end.
  std::size_t read(std::span<char> out);

 private:
  bool fill();
  void open_decompressor();
  void begin_member();
  std::size_t decompress_into(std::span<char> out);

  std::string path_;
  bool is_standard_input_;
  Descriptor file_;
  std::vector<unsigned char> buffer_;
  std::span<unsigned char> unused_;  ///< the part of the buffer that is not consumed yet
  const Compression* compression_ = nullptr;
  std::unique_ptr<Decompressor> decompressor_;
  bool inside_member_ = false, ended_ = false;
  std::int64_t offset_ = 0;
};

}  // namespace causeway
