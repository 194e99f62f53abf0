#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace causeway {

/// Decompresses one format, a part at a time.
class Decompressor {
 public:
  struct Step {
    std::size_t consumed = 0, produced = 0;
    bool ended = false;  ///< the member is complete
  };
  static constexpr std::size_t most_bytes = std::size_t{1} << 30;  ///< zlib and libbz2 count in 32 bits
  virtual ~Decompressor() = default;
  /// Begins the next member: gzip's member, zstd's frame, a stream of xz or bzip2. Called before its first step.
  virtual void begin() = 0;
  /// Reads some of `in`, writes some of `out`, each of at most `most_bytes`. A step that does neither needs more input.
  /// Throws Error(usage) for damage and for a member that needs more memory than the format's limit; the text has no
  /// file name.
  virtual Step step(std::span<const unsigned char> in, std::span<char> out) = 0;
};

/// A compression format, as a row of the table.
struct Compression {
  std::string_view name;                    ///< "gzip"
  std::array<std::string_view, 2> endings;  ///< of file names, in lower case
  std::string_view library;                 ///< "zlib", and the package that has it
  std::string_view command;                 ///< that decompresses a file: "gzip -d"
  std::size_t padding;  ///< zeros may follow the last member, in multiples of this number; 0: none may
  bool (*starts)(std::string_view bytes);   ///< whether a file with these first bytes is of this format
  std::unique_ptr<Decompressor> (*open)();  ///< null where this program was built without the library
};

/// gzip (RFC 1952), zstd (RFC 8878), xz (tukaani.org/xz/xz-file-format.txt) and bzip2.
std::span<const Compression> compressions();

/// How many first bytes of a file tell its compression.
constexpr std::size_t compression_magic_bytes = 10;

/// The compression of a file with these first bytes, compression_magic_bytes of them where the file has as many; null
/// for none.
const Compression* compression_of_bytes(std::string_view bytes);
/// The compression that the ending of a file's name tells; null for none.
const Compression* compression_of_name(std::string_view path);
/// The path without the ending that tells its compression.
std::string without_compression_ending(const std::string& path);

// Each is null where the program was built without the library.
extern std::unique_ptr<Decompressor> (*const open_gzip)();
extern std::unique_ptr<Decompressor> (*const open_zstd)();
extern std::unique_ptr<Decompressor> (*const open_xz)();
extern std::unique_ptr<Decompressor> (*const open_bzip2)();

}  // namespace causeway
