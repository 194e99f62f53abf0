/// metrics.jsonl as a table.

#include <filesystem>
#include <string_view>
#include <vector>

#include "kernels/core/error.hpp"
#include "src/cli/log.hpp"
#include "src/export/json_columns.hpp"
#include "src/export/writers.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/regular_file.hpp"
#include "src/watch/metrics_reader.hpp"

namespace causeway {
namespace {

/// Where the line of a step is.
struct StepLine {
  std::int64_t step = 0, offset = 0, bytes = 0;
};

/// Calls `use(line, offset)` for each complete line, with only the start of one that is longer than `longest`.
template <class Use>
void for_each_line(const RegularFile& file, const std::string& path, std::size_t longest, Use use) {
  std::vector<char> block(std::size_t{1} << 20);
  std::string line;
  std::int64_t start = 0;
  for (std::int64_t at = 0; at < file.bytes();) {
    const std::size_t got = file.read(at, block);
    if (got == 0) fail(ExitCode::io, "{}: cannot be read after byte {}", path, at);
    for (std::size_t i = 0; i < got; ++i, ++at) {
      if (block[i] != '\n') {
        if (line.size() <= longest) line += block[i];
        continue;
      }
      use(std::string_view(line), start);
      line.clear();
      start = at + 1;
    }
  }
}

/// The line of each step, in the order of steps, and the columns of all of them.
struct Lines {
  std::vector<StepLine> steps;
  JsonColumns columns;
  std::string last;  ///< the last line's text: an active run may replace it by a longer one
  std::int64_t invalid = 0;
};

Lines read_lines(const RegularFile& file, const std::string& path) {
  Lines lines;
  constexpr auto longest = static_cast<std::size_t>(MetricsReader::longest_line);
  for_each_line(file, path, longest, [&](std::string_view text, std::int64_t offset) {
    const auto object = text.size() <= longest ? parse_object(text) : std::nullopt;
    const auto step = object ? integer_field(*object, "step") : std::nullopt;
    if (!step || *step < 0) {
      ++lines.invalid;
      return;
    }
    // As a resumed run does: a step replaces the same step and what came after it.
    while (!lines.steps.empty() && lines.steps.back().step >= *step) lines.steps.pop_back();
    lines.steps.push_back({*step, offset, static_cast<std::int64_t>(text.size())});
    lines.columns.add(*object, path);
    lines.last = text;
  });
  return lines;
}

}  // namespace

void export_metrics(const ExportRequest& request, TableFile& table) {
  const std::filesystem::path source = request.source;
  const std::string path = std::filesystem::is_directory(source) ? (source / "metrics.jsonl").string() : request.source;
  const auto file = RegularFile::open(path);
  if (!file) fail(ExitCode::io, "{}: cannot be opened, or is not a regular file", path);
  const Lines lines = read_lines(*file, path);
  if (lines.invalid > 0)
    Log().warn("{}: lines left out that are not JSON objects with a step: {}", path, lines.invalid);
  require(!lines.steps.empty(), "{}: contains no step yet", path);
  table.columns(lines.columns.names());
  for (const StepLine& line : lines.steps) {
    const bool last = &line == &lines.steps.back();
    const auto object = parse_object(last ? lines.last : file->text(line.offset, line.bytes));
    if (!object) fail(ExitCode::io, "{}: was changed while it was read", path);
    lines.columns.write(*object, table);
  }
}

}  // namespace causeway
