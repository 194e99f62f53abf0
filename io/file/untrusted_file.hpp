#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "io/file/descriptor.hpp"

/// Files of a checkpoint, which could come from elsewhere. A missing file, a link and anything but a regular file are
/// wrong content: Error(corrupt). A file that the system cannot open or read now is Error(io): it may be good.
namespace causeway {

/// Opens a file for reading, and returns it with its size. Follows no link and waits for no pipe.
std::pair<Descriptor, std::int64_t> open_untrusted(const std::string& path);
/// Its size only.
std::int64_t size_of_file(const std::string& path);
/// Reads up to `count` bytes at the file's position; 0 at its end.
std::size_t read_some(const Descriptor& file, void* bytes, std::size_t count, const std::string& path);
/// The whole file. A file of more than `most` bytes is Error(corrupt).
std::string read_untrusted(const std::string& path, std::int64_t most);

}  // namespace causeway
