#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/results/table_file.hpp"

namespace causeway {

/// Parses a JSON object of a file that is not trusted. No value for anything else. What is nested more than 8 deep is
/// left out.
std::optional<nlohmann::ordered_json> parse_object(std::string_view text);

/// The columns of a table whose rows are JSON objects. Every member that an object has is a column; the members of an
/// object in it are columns named "outer.inner". Anything nested more deeply is JSON text in its cell.
class JsonColumns {
 public:
  static constexpr std::size_t most = 1000;

  /// Adds a column for each member that has none yet, after the column of the member before it: the members of an
  /// object with few of them do not all come first. Throws Error(usage) with `where` for more than `most` columns.
  void add(const nlohmann::ordered_json& object, const std::string& where);
  const std::vector<std::string>& names() const { return names_; }
  /// Writes the row of an object. Members that are null or missing are empty cells; members that were not added are
  /// left out.
  void write(const nlohmann::ordered_json& object, TableFile& table) const;

 private:
  std::vector<std::string> names_;
};

}  // namespace causeway
