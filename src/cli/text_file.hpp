#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace causeway {

/// The whole of a small file that `option` names. At most `limit` bytes, so that a device or a data file named by
/// mistake is refused rather than read. Throws Error(usage) naming option and path.
std::string read_bytes(const std::string& path, std::string_view option, std::size_t limit);
/// The same of text, in which there is no zero byte.
std::string read_text(const std::string& path, std::string_view option, std::size_t limit);

}  // namespace causeway
