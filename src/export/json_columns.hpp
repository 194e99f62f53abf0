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

  /// Adds the members that no object before had, each after the one that it follows here: so an object with few members
  /// does not decide the order. Throws Error(usage) with `where` for more than `most`.
  void add(const nlohmann::ordered_json& object, const std::string& where);
  const std::vector<std::string>& names() const { return names_; }
  /// Writes the row of an object. Members that are null or missing are empty cells; members that were not added are
  /// left out.
  void write(const nlohmann::ordered_json& object, TableFile& table) const;

 private:
  std::vector<std::string> names_;
};

}  // namespace causeway
