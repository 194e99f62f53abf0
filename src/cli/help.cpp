#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#include "kernels/core/error.hpp"
#include "src/cli/config.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

constexpr std::size_t text_width = 100;
constexpr std::size_t help_column = 30;

std::size_t width_of(std::string_view text) { return static_cast<std::size_t>(columns_of(text)); }

/// The words of `text` in lines that start at `column` and end before text_width, in characters. Blank lines and the
/// indent of a line stay; a line that is too long continues with a larger indent.
std::string wrapped(const std::string& text, std::size_t column) {
  std::string result;
  std::istringstream paragraphs(text);
  for (std::string paragraph; std::getline(paragraphs, paragraph);) {
    const std::size_t indent = std::min(paragraph.find_first_not_of(' '), paragraph.size());
    // A row of a list, "  name   description", keeps its first column; its other lines begin below the description.
    std::size_t hang = indent == 0 ? 0 : indent + 2, start = indent;
    const std::size_t gap = indent == 0 ? std::string::npos : paragraph.find("  ", indent);
    if (gap != std::string::npos) hang = start = std::min(paragraph.find_first_not_of(' ', gap), paragraph.size());
    std::istringstream words(paragraph.substr(start));
    std::string line = paragraph.substr(0, start);
    bool begins = true;
    for (std::string word; words >> word;) {
      if (!begins && column + width_of(line) + 1 + width_of(word) > text_width) {
        result += std::string(column, ' ') + line + '\n';
        line = std::string(hang, ' ');
        begins = true;
      }
      line += (begins ? "" : " ") + word;
      begins = false;
    }
    result += begins ? "\n" : std::string(column, ' ') + line + '\n';
  }
  return result;
}

std::string default_of(const Option& option) {
  if (!option.shown_default.empty()) return option.shown_default;
  return std::visit(
      [](const auto* field) -> std::string {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(field)>>;
        if constexpr (std::is_same_v<T, bool>)
          return *field ? "on" : "";
        else if constexpr (std::is_same_v<T, std::vector<std::string>>)
          return fmt::format("{}", fmt::join(*field, " "));
        else if constexpr (std::is_same_v<T, std::optional<std::int64_t>> || std::is_same_v<T, std::optional<double>>)
          return *field ? fmt::format("{}", **field) : "";
        else
          return fmt::format("{}", *field);
      },
      option.field);
}

/// "--dtype f32|f64", as the option is written on the command line.
std::string option_text(const Option& option) {
  std::string text = option.positional ? fmt::format("[--{}]", option.name) : fmt::format("--{}", option.name);
  if (!option.choices.empty()) return fmt::format("{} {}", text, fmt::join(option.choices, "|"));
  return option.value.empty() ? text : fmt::format("{} {}", text, option.value);
}

/// The help of an option, with its default in brackets.
std::string description_of(const Option& option) {
  std::string text = option.help;
  if (std::holds_alternative<std::vector<std::string>*>(option.field)) text += " (can be given several times)";
  if (!option.also.empty()) text += fmt::format(" (also called --{})", option.also);
  if (option.binary_units) text += " (also as 64K or 1M: K is 1024, M is 1024²)";
  const std::string initial = default_of(option);
  return initial.empty() ? text : fmt::format("{} [{}]", text, initial);
}

std::string indented(const std::string& lines, std::string_view indent) {
  std::string result;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);)
    result += line.empty() ? "\n" : fmt::format("{}{}\n", indent, line);
  return result;
}

/// `text` as roff prints it unchanged. Roff takes a line that starts with a dot or a quote as a request, breaks lines
/// at hyphens, and reads bytes above 127 as Latin-1.
std::string roff(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool starts_line = i == 0 || text[i - 1] == '\n';
    if (starts_line && (byte == '.' || byte == '\'')) result += "\\&";
    if (byte == '\\') {
      result += "\\e";
    } else if (byte == '-') {
      result += "\\-";
    } else if (byte < 0x80) {
      result += text[i];
    } else {  // the source files are UTF-8
      unsigned code = byte & (byte >= 0xF0 ? 0x07u : byte >= 0xE0 ? 0x0Fu : 0x1Fu);
      while (i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xC0u) == 0x80u)
        code = code << 6 | (static_cast<unsigned char>(text[++i]) & 0x3Fu);
      result += fmt::format("\\[u{:04X}]", code);
    }
  }
  return result;
}

}  // namespace

std::string help_text(const CommandLine& line, std::string_view command) {
  std::string text = fmt::format("usage: causeway {} {}\n\n{}", command, line.usage, wrapped(line.description, 0));
  for (const OptionGroup& group : line.groups) {
    text += fmt::format("\n{}:\n", group.title);
    for (const Option& option : group.options) {
      const std::string head = "  " + option_text(option);
      const std::string body = wrapped(description_of(option), help_column);
      // A short option and the first line of its help are on one line.
      text += width_of(head) + 2 <= help_column ? head + body.substr(width_of(head)) : head + '\n' + body;
    }
  }
  if (!line.examples.empty()) text += fmt::format("\nExamples:\n{}", indented(line.examples, "  "));
  return text;
}

std::string roff_text(const CommandLine& line, std::string_view command, std::string_view summary) {
  std::string text = fmt::format(".SS causeway {} {}\n{}.\n.PP\n{}\n", roff(command), roff(line.usage), roff(summary),
                                 roff(line.description));
  for (const OptionGroup& group : line.groups)
    for (const Option& option : group.options)
      text += fmt::format(".TP\n.B {}\n{}\n", roff(option_text(option)), roff(description_of(option)));
  if (!line.examples.empty()) text += fmt::format(".PP\nExamples:\n.PP\n.nf\n{}\n.fi\n", roff(line.examples));
  return text;
}

}  // namespace causeway
