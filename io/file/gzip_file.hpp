#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/handle.hpp"

struct z_stream_s;

namespace causeway {

/// A file's bytes in order, inflated where it begins as gzip does (RFC 1952): several members are one text, zeros
/// behind the last are padding. Damage, an end within a member, and anything else behind the last one throw
/// Error(usage). zlib's own gzFile is not used for it: where the bytes it was asked for come to an end just as a
/// cut-off file does, it says that all is well; and it takes a member whose first byte is damaged for the end.
class GzipFile {
 public:
  /// Holds about `buffer_bytes` of the file.
  GzipFile(const std::string& path, std::size_t buffer_bytes);
  ~GzipFile();
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  bool compressed() const { return stream_ != nullptr; }
  std::int64_t offset() const { return offset_; }  ///< bytes of the file that have been read

  /// Fills `out` from its front; less than all of it only at the end.
  std::size_t read(std::span<char> out);

 private:
  struct DescriptorTraits {
    using type = int;
    static type null() { return -1; }
    static void close(type descriptor) noexcept;
  };
  struct InflateEnd {
    void operator()(z_stream_s* stream) const noexcept;
  };

  bool fill();
  void skip_padding();
  std::size_t inflate_into(std::span<char> out);

  std::string path_;
  Handle<DescriptorTraits> file_;
  std::vector<unsigned char> buffer_;
  std::span<unsigned char> held_;  ///< what of the buffer is still to be used
  std::unique_ptr<z_stream_s, InflateEnd> stream_;
  bool inside_member_ = true, ended_ = false;
  std::int64_t offset_ = 0;
};

}  // namespace causeway
