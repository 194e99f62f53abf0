#include "src/export/export_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "io/file/look_up.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "src/export/json_columns.hpp"
#include "src/export/writers.hpp"
#include "src/output/safe_text.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/regular_file.hpp"
#include "src/watch/metrics_reader.hpp"

namespace causeway {
namespace {

constexpr ExportKind kinds[] = {
    {"scores", "a file of causeway score", "document; with --tokens for each token", true, export_scores},
    {"metrics", "a run, or its metrics.jsonl", "step", false, export_metrics},
    {"report", "JSON of causeway bench --json or causeway pack --json", "result", false, export_report},
    {"dataset", "a file of causeway import", "document", false, export_dataset},
};

const ExportKind& kind(std::string_view name) {
  return *std::ranges::find(kinds, name, [](const ExportKind& each) { return each.name; });
}

[[noreturn]] void refuse(const std::string& source, std::string_view found) {
  std::string list;
  for (const ExportKind& each : kinds) list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", each.name, each.what);
  fail(ExitCode::usage, "{}: {}; what can be exported: {}", source, found, list);
}

/// The kind of an HDF5 file, as its attribute `format` says.
std::string format_of(const std::string& source) {
  const auto file = hdf5::File::open(source, hdf5::Access::read);
  return file.has_attribute("format") ? file.string_attribute("format") : "";
}

}  // namespace

std::span<const ExportKind> export_kinds() { return kinds; }

const ExportKind& export_kind_of(const std::string& source) {
  namespace fs = std::filesystem;
  const fs::file_type type = kind_of(source);
  require(type != fs::file_type::not_found, "{}: {}", source, why_missing(source, "file or folder"));
  if (type == fs::file_type::directory) {
    if (is_there((fs::path(source) / "metrics.jsonl").string())) return kind("metrics");
    refuse(source, "is a folder without metrics.jsonl, not a run");
  }
  if (type != fs::file_type::regular) refuse(source, "is neither a file nor a folder");
  if (hdf5::is_hdf5(source)) {
    const std::string format = format_of(source);
    if (format == "causeway-scores") return kind("scores");
    if (format == "causeway-dataset") return kind("dataset");
    refuse(source, fmt::format("is an HDF5 file whose attribute format is '{}'", one_line(format, 100)));
  }
  const auto file = RegularFile::open(source);
  if (!file) fail(ExitCode::io, "{}: cannot be opened", source);
  const std::string start = file->text(0, MetricsReader::longest_line);
  const auto line = parse_object(start.substr(0, start.find('\n')));
  if (line && integer_field(*line, "step")) return kind("metrics");
  const std::size_t first = start.find_first_not_of(" \t\r\n");
  if (first != start.npos && start[first] == '{' && read_report(source).contains("topic")) return kind("report");
  refuse(source, "is not a file of Causeway that can be exported");
}

}  // namespace causeway
