#pragma once

#include <string>
#include <vector>

namespace causeway {

/// A file that a hub with a largest file size cut into NAME.part0, NAME.part1, …: all parts in order, whether `path`
/// names one of them or NAME, which is not there then. Any other path is the only one. Throws Error(usage) where one
/// of the parts is missing.
std::vector<std::string> parts_of_file(const std::string& path);

}  // namespace causeway
