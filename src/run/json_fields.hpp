#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace causeway {

/// The value of a member of a JSON object. Without a value (text: "") where the member is missing, has another type, or
/// is out of the type's range: files of a run are not trusted.
std::optional<double> number_field(const nlohmann::json& object, const char* name);
std::optional<std::int64_t> integer_field(const nlohmann::json& object, const char* name);
std::string text_field(const nlohmann::json& object, const char* name);

/// Null for no value: JSON has no other way to say that a mean over nothing is undefined.
nlohmann::ordered_json number_or_null(const std::optional<double>& value);

/// Parses a JSON object; an empty one where `text` is not a JSON object.
nlohmann::json json_object(std::string_view text);

}  // namespace causeway
