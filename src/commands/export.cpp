#include <unistd.h>

#include <optional>

#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/progress.hpp"
#include "src/export/export_table.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

struct ExportSettings {
  std::string source, out = "-";
  bool tokens = false, force = false;
};

CommandLine declare(ExportSettings& settings) {
  std::string kinds;
  for (const ExportKind& kind : export_kinds())
    kinds += fmt::format("\n  {:<9}{}: a row for each {}", kind.name, kind.what, kind.row);
  return {
      .usage = "FILE|RUN [--out FILE.tsv|FILE.csv] [options]",
      .description =
          "Makes a table for spreadsheets, R, pandas or awk from a file that Causeway wrote. The kind of the file is "
          "recognized by its content.\n\nWhat can be exported:" +
          kinds +
          "\n\nThe first line has the names of the columns. Numbers have the fewest digits from which the same bits "
          "are read back; a value that is missing is an empty cell. TSV writes a tab, line feed, carriage return and "
          "backslash in a name as \\t, \\n, \\r and \\\\; CSV quotes as RFC 4180 says. Embeddings are not exported: "
          "h5py reads them.",
      .groups = {{"Input",
                  {{"source",
                    &settings.source,
                    "FILE|DIRECTORY",
                    "scores, a run or its metrics.jsonl, a report, or a dataset",
                    {},
                    true},
                   {"tokens", &settings.tokens, "", "of scores: a row for each token, not for each document"}}},
                 {"Output",
                  {{"out", &settings.out, "FILE",
                    "the table to write, TSV or CSV by the ending of its name; - is standard output, as TSV"},
                   {"force", &settings.force, "", "replace the table if it exists"}}}},
      .examples =
          "causeway export scores.h5 --out scores.tsv\n"
          "causeway export scores.h5 --tokens --out tokens.csv\n"
          "causeway export runs/first | cut -f1,2 | tail"};
}

/// Standard output. A terminal receives no control characters from names.
TableFile standard_output() {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  return {[terminal](std::string_view text) { write_result(terminal ? safe_lines(text) : std::string(text)); },
          TableFormat::tsv};
}

ExitCode execute(const ExportSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.source.empty(), "--source is missing: expected a file or a run to export");
  const TableFormat format = table_format_of(settings.out, "out");
  const Existing existing = settings.force ? Existing::replaced : Existing::refused;
  const bool to_file = settings.out != "-";
  if (to_file) check_target(settings.out, existing);
  require(!to_file || !same_file(settings.source, settings.out), "--out is '{}', the file that is read", settings.out);
  const ExportKind& kind = export_kind_of(settings.source);
  require(!settings.tokens || kind.by_token, "--tokens is only for scores, found {}: {}", settings.source, kind.what);
  std::optional<Progress> bar;
  ExportRequest request{.source = settings.source, .tokens = settings.tokens};
  if (to_file)
    request.progress = [&bar](std::int64_t done, std::int64_t rows) {
      if (!bar) bar.emplace("export", rows, "rows");
      bar->update(done);
    };
  TableFile table = to_file ? TableFile(settings.out, format, existing) : standard_output();
  kind.write(request, table);
  table.finish();
  if (bar) bar->finish();
  return ExitCode::ok;
}

}  // namespace

Command export_command() {
  return make_command<ExportSettings, declare, execute>("export",
                                                        "make a TSV or CSV table of scores, metrics, reports or data");
}

}  // namespace causeway
