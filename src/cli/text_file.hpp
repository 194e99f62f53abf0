#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace causeway {

/// All bytes of a small file that `option` names, at most `limit`: a device or a data file that is given by mistake is
/// refused. Throws Error(usage) with the option and the path.
std::string read_bytes(const std::string& path, std::string_view option, std::size_t limit);
/// The same for text: a file with a zero byte is refused, a byte order mark at its start is left out.
std::string read_text(const std::string& path, std::string_view option, std::size_t limit);

}  // namespace causeway
