#include "src/export/json_columns.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <unordered_map>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

using Json = nlohmann::ordered_json;

/// Calls `use(name, value)` for each member; objects one level deep are opened.
template <class Use>
void for_each_member(const Json& object, Use use) {
  for (const auto& [name, value] : object.items()) {
    if (!value.is_object())
      use(name, value);
    else
      for (const auto& [inner, inner_value] : value.items()) use(fmt::format("{}.{}", name, inner), inner_value);
  }
}

/// `text` receives what the cell views.
TableCell cell_of(const Json& value, std::string& text) {
  constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (value.is_null()) return {};
  if (value.is_number_float()) return value.get<double>();
  if (value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > largest))
    return value.get<std::int64_t>();
  text = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return std::string_view(text);
}

}  // namespace

std::optional<Json> parse_object(std::string_view text) {
  constexpr int deepest = 8;
  // Without a limit, a line of opening brackets would exhaust the stack of what goes through the value later.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth <= deepest; };
  Json parsed = Json::parse(text, shallow, false);
  return parsed.is_object() ? std::optional(std::move(parsed)) : std::nullopt;
}

void JsonColumns::add(const Json& object, const std::string& where) {
  auto next = names_.begin();  // where a new column is inserted: after the member before it
  for_each_member(object, [&](const std::string& name, const Json&) {
    auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) {
      require(names_.size() < most, "{}: has more than {} different members, which would be columns", where, most);
      found = names_.insert(next, name);
    }
    next = found + 1;
  });
}

void JsonColumns::write(const Json& object, TableFile& table) const {
  std::unordered_map<std::string, const Json*> members;
  for_each_member(object, [&](const std::string& name, const Json& value) { members[name] = &value; });
  std::vector<TableCell> cells(names_.size());
  std::vector<std::string> texts(names_.size());
  for (std::size_t i = 0; i < names_.size(); ++i)
    if (const auto found = members.find(names_[i]); found != members.end())
      cells[i] = cell_of(*found->second, texts[i]);
  table.row(cells);
}

}  // namespace causeway
