#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace causeway {

/// Parses JSON that someone else wrote. Throws Error(corrupt), starting with `where`, for text that is not JSON, for
/// more than `deepest` objects and lists inside one another, and for a name that an object has twice.
nlohmann::json parse_untrusted_json(const std::string& text, const std::string& where, int deepest = 16);

/// Reads and parses a file that the user names; links are followed. Throws Error(usage) for a missing file and for one
/// of more than `most_bytes`.
nlohmann::json read_json_file(const std::string& path, std::int64_t most_bytes);

}  // namespace causeway
