#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace causeway {

/// One option of a command: the row that the command line, the INI file, --help, --print-config and the man page are
/// made from. Its default is what the field holds when the row is declared.
struct Option {
  using Field = std::variant<std::string*, int*, std::int64_t*, double*, bool*, std::vector<std::string>*>;

  std::string name;   ///< as on the command line, without dashes, and in the INI file
  Field field;        ///< parse() writes it; a bool takes no value, a vector may be given several times
  std::string value;  ///< stands for the value in --help: "FILE"
  std::string help;   ///< says what it does and when one wants it
  std::vector<std::string> choices = {};  ///< of a string: what it may be; empty: anything
  bool positional = false;                ///< may be given without its name; a vector takes all that follow
  std::string shown_default = {};         ///< --help prints it as the default instead of the field's value, if not ""
};

struct OptionGroup {
  std::string title;
  std::vector<Option> options;
};

/// What a command takes, and the words --help teaches it with.
struct CommandLine {
  std::string usage;        ///< what follows the command's name: "OPERATOR --in FILE --out FILE [options]"
  std::string description;  ///< a paragraph; blank lines separate paragraphs
  std::vector<OptionGroup> groups;
  std::string examples;  ///< lines a reader can paste
};

/// Fills the fields of `line` from what follows the command's name and from the INI file --config names; the command
/// line wins. Returns what to print instead of running, where --help or --print-config asks for it. Throws Error(usage)
/// naming the option, or the file and key.
std::optional<std::string> parse(const CommandLine& line, std::string_view command,
                                 std::span<const std::string> arguments);

/// The INI file that would set every field to what it holds now. Throws Error(usage) where INI has no way to write a
/// value.
std::string to_ini(const CommandLine& line);

/// The same table for a reader: --help's text, and the sections of a man page.
std::string help_text(const CommandLine& line, std::string_view command);
std::string roff_text(const CommandLine& line, std::string_view command, std::string_view summary);

/// "; did you mean 'x'?" where one of the known words is close to what was typed, else "".
std::string did_you_mean(std::string_view typed, std::span<const std::string> known);

}  // namespace causeway
