#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/file/byte_source.hpp"

namespace causeway {

/// A member of a ZIP archive that is stored uncompressed: `bytes` bytes of the archive's file at `offset`.
struct ZipEntry {
  std::string name;
  std::int64_t offset = 0, bytes = 0;
  std::uint32_t crc32 = 0;  ///< 0 if the writer computed none
};

/// The members of a ZIP archive, in the order of its central directory, ZIP64 included (PKWARE's APPNOTE.TXT 6.3.10).
/// Local headers are only skipped: torch.save leaves sizes and checksums in them empty. Throws Error(usage) for
/// compressed or encrypted members and archives of several disks; Error(corrupt) for what is not within the file, for
/// members that overlap and names that occur twice.
std::vector<ZipEntry> read_zip_directory(const ByteSource& file);

/// Whether the file starts like a ZIP archive with members.
bool looks_like_zip(const ByteSource& file);

}  // namespace causeway
