// causeway export of a file of any kind: refused, or a table of which every line has as many cells as there are
// columns.
#include "src/export/export_table.hpp"

#include <algorithm>

#include "tests/fuzz/fuzz.hpp"

namespace causeway::fuzz {
namespace {

void export_one(const std::string& path, bool tokens) {
  std::string text;
  bool written = false;
  accepts(
      [&] {
        const ExportKind& kind = export_kind_of(path);
        if (tokens && !kind.by_token) return;
        TableFile table([&](std::string_view part) { text += part; }, TableFormat::tsv);
        kind.write({.source = path, .tokens = tokens}, table);
        table.finish();
        written = true;
      },
      {ExitCode::usage, ExitCode::corrupt});
  if (!written) return;
  holds(text.ends_with('\n'), "the table does not end with a line end");
  const auto tabs = [](std::string_view line) { return std::ranges::count(line, '\t'); };
  const auto expected = tabs(std::string_view(text).substr(0, text.find('\n')));
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string_view line = std::string_view(text).substr(at, end - at);
    holds(tabs(line) == expected, "a line has {} tabs, the first one {}", tabs(line), expected);
    at = end + 1;
  }
}

}  // namespace
}  // namespace causeway::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const causeway::testing::TemporaryFolder folder;
  const std::string path = folder.write("source", causeway::fuzz::text_of(data, size));
  causeway::fuzz::export_one(path, false);
  causeway::fuzz::export_one(path, true);
  return 0;
}
