/// The JSON of `bench --json` and `pack --json` as a table.

#include <vector>

#include "kernels/core/error.hpp"
#include "src/export/json_columns.hpp"
#include "src/export/writers.hpp"
#include "src/run/regular_file.hpp"

namespace causeway {

nlohmann::ordered_json read_report(const std::string& path) {
  constexpr std::size_t largest = std::size_t{64} << 20;
  const auto file = RegularFile::open(path);
  if (!file) fail(ExitCode::io, "{}: cannot be opened, or is not a regular file", path);
  require(file->bytes() <= static_cast<std::int64_t>(largest), "{}: has {} bytes, expected at most 64 MiB", path,
          file->bytes());
  return parse_object(file->text(0, file->bytes())).value_or(nlohmann::ordered_json::object());
}

void export_report(const ExportRequest& request, TableFile& table) {
  const nlohmann::ordered_json report = read_report(request.source);
  nlohmann::ordered_json common = report, results = nlohmann::ordered_json::array({nlohmann::ordered_json::object()});
  if (report.contains("results")) results = report["results"];
  common.erase("results");
  require(results.is_array() && !results.empty(), "{}: its member results is not an array of results", request.source);
  std::vector<nlohmann::ordered_json> rows;
  for (const auto& result : results) {
    require(result.is_object(), "{}: its member results has an element that is not an object", request.source);
    rows.push_back(common);
    rows.back().update(result);
  }
  JsonColumns columns;
  for (const auto& row : rows) columns.add(row, request.source);
  table.columns(columns.names());
  for (const auto& row : rows) columns.write(row, table);
}

}  // namespace causeway
