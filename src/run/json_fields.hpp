#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace causeway {

/// What a JSON object holds under a name, or nothing where it is missing, of another type, or beyond what the type
/// holds: files of a run are read as anybody may have written them.
std::optional<double> number_field(const nlohmann::json& object, const char* name);
std::optional<std::int64_t> integer_field(const nlohmann::json& object, const char* name);
std::string text_field(const nlohmann::json& object, const char* name);

/// The object that `text` is, or an empty one where it is none.
nlohmann::json json_object(std::string_view text);

}  // namespace causeway
