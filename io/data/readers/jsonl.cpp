#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>

#include "io/data/readers/reader.hpp"
#include "io/file/utf8.hpp"

namespace causeway {
namespace {

using Json = nlohmann::json;

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

/// Keeps only `text`, `id` and `name` of the outermost object. No tree is built, so a line of a million brackets needs
/// no memory.
class Record : public nlohmann::json_sax<Json> {
 public:
  /// `converted`: the numbers of the strings that convert_strings() changed.
  explicit Record(std::vector<std::size_t> converted) : converted_(std::move(converted)) {}

  std::optional<std::string> text, id, name;
  bool id_converted = false, name_converted = false;
  std::string problem;

  bool key(string_t& key) override {
    next_is_converted();
    if (depth_ == 1) key_ = key;
    return true;
  }
  bool string(string_t& value) override {
    const bool converted = next_is_converted();
    if (depth_ == 1 && key_ == "text") {
      text = std::move(value);
      if (converted) problem = "found bytes that are not UTF-8 in \"text\", expected JSON, which is UTF-8";
    } else if (depth_ == 1 && key_ == "id") {
      id = std::move(value);
      id_converted = converted;
    } else if (depth_ == 1 && key_ == "name") {
      name = std::move(value);
      name_converted = converted;
    } else {
      return scalar("a string");
    }
    return problem.empty();
  }
  bool number_integer(number_integer_t value) override { return integer(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return integer(std::to_string(value)); }
  bool number_float(number_float_t, const string_t&) override { return scalar("a number"); }
  bool boolean(bool) override { return scalar("a truth value"); }
  bool null() override { return scalar("null"); }
  bool binary(binary_t&) override { return scalar("bytes"); }
  bool start_object(std::size_t) override { return open("an object", true); }
  bool start_array(std::size_t) override { return open("a list", false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string reason = error.what();
    if (const std::size_t colon = reason.rfind(": "); colon != reason.npos) reason = reason.substr(colon + 2);
    problem = fmt::format("found broken JSON at its byte {} ({}), expected an object", position, reason);
    return false;
  }

 private:
  bool scalar(const char* what) {
    if (depth_ == 0) problem = fmt::format("found {}, expected an object", what);
    if (depth_ == 1 && key_ == "text") problem = fmt::format("found {} as \"text\", expected a string", what);
    return problem.empty();
  }
  bool integer(std::string value) {
    if (depth_ == 1 && key_ == "id") {
      id = std::move(value);
      id_converted = false;
    } else if (depth_ == 1 && key_ == "name") {
      name = std::move(value);
      name_converted = false;
    }
    return scalar("a number");
  }
  bool open(const char* what, bool object) {
    if (depth_ > 0 || !object) scalar(what);
    ++depth_;
    return problem.empty();
  }
  bool close() {
    --depth_;
    return true;
  }

  /// Counts the strings, keys included.
  bool next_is_converted() { return std::ranges::binary_search(converted_, strings_++); }

  std::vector<std::size_t> converted_;
  std::size_t strings_ = 0;
  int depth_ = 0;
  std::string key_;
};

}  // namespace

void read_jsonl(LineReader& lines, DocumentSink& out) {
  std::string line;
  while (const auto part = lines.next()) {
    if (part->first) line.clear();
    if (line.size() + part->text.size() > longest_json_line)
      lines.refuse("found a line of more than {} bytes, expected a shorter one", longest_json_line);
    line.append(part->text);
    if (!part->last || line.find_first_not_of(" \t") == line.npos) continue;
    Record record(convert_strings(line));
    const bool complete = Json::sax_parse(line, &record);
    if (!record.problem.empty()) lines.refuse("{}", record.problem);
    ensure(complete, "{}:{}: unexplained JSON error", lines.path(), lines.line());
    if (!record.text) lines.refuse("found no \"text\", expected one in every object");
    const std::string name = record.id     ? *record.id
                             : record.name ? *record.name
                                           : fmt::format("{}:{}", lines.file_name(), lines.line());
    if (name.size() > longest_name)
      lines.refuse("found a name of {} bytes, expected at most {}", name.size(), longest_name);
    out.begin(name, record.id ? record.id_converted : record.name_converted);
    out.append_bytes(*record.text);
  }
}

}  // namespace causeway
