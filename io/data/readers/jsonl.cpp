#include <algorithm>

#include "io/data/readers/json_records.hpp"
#include "io/file/utf8.hpp"

namespace causeway {
namespace {

/// JSON is UTF-8. Converts the strings of a line that are not, as if their bytes were Latin-1, and returns their
/// numbers: names may be so, and members that are ignored. What is outside of strings stays as it is.
std::vector<std::size_t> convert_strings(std::string& line) {
  std::vector<std::size_t> converted;
  if (is_utf8(line)) return converted;
  std::string out;
  std::size_t strings = 0;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t begin = std::min(line.find('"', at), line.size() - 1) + 1;
    out.append(line, at, begin - at);
    std::size_t end = begin;
    while (end < line.size() && line[end] != '"') end += line[end] == '\\' ? 2 : 1;
    end = std::min(end, line.size());
    const std::string text = line.substr(begin, end - begin);
    if (!is_utf8(text)) converted.push_back(strings);
    ++strings;
    out += as_utf8(text);
    if (end < line.size()) out += line[end++];
    at = end;
  }
  line = std::move(out);
  return converted;
}

void read_record(std::string& line, LineReader& lines, const ReaderOptions& options, DocumentSink& out) {
  const auto found = [&](JsonRecord& record) {
    if (!record.problem.empty()) lines.refuse("{}", record.problem);
    out.begin(record.name.value_or(fmt::format("{}:{}", lines.file_name(), lines.line())), record.name_converted);
    out.append_bytes(record.text);
  };
  std::vector<std::size_t> converted = convert_strings(line);
  JsonRecords records(options, JsonRecords::Expected::object, found, std::move(converted));
  const bool complete = nlohmann::json::sax_parse(line, &records);
  if (!records.problem().empty()) lines.refuse("{}", records.problem());
  ensure(complete, "{}:{}: unexplained JSON error", lines.path(), lines.line());
  out.end();
}

}  // namespace

void read_jsonl(LineReader& lines, const ReaderOptions& options, DocumentSink& out) {
  std::string line;
  bool lost = false;  // after a fault, until the next line
  while (const auto part = lines.next()) {
    if (part->first) {
      line.clear();
      lost = false;
    }
    if (lost) continue;
    lost = !out.accepts([&] {
      if (std::ssize(line) + std::ssize(part->text) > options.longest_json)
        lines.refuse("found a line of more than {} bytes, expected a shorter one, or a larger --max-line",
                     options.longest_json);
      line.append(part->text);
      if (part->last && line.find_first_not_of(" \t") != line.npos) read_record(line, lines, options, out);
    });
  }
}

}  // namespace causeway
