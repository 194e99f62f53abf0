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

/// The text of a JSON file: indented, with a line end. Bytes that are not UTF-8 become U+FFFD.
std::string json_document(const nlohmann::ordered_json& value);

/// Parses a JSON object; an empty one where `text` is not a JSON object.
nlohmann::json json_object(std::string_view text);

}  // namespace causeway
