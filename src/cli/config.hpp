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

/// One option of a command. The command line, the INI file, --help, --print-config, the man page and the completion
/// scripts are all made from these rows. The default is the value of the field when the row is declared.
struct Option {
  using Field = std::variant<std::string*, int*, std::int64_t*, double*, bool*, std::vector<std::string>*,
                             std::optional<std::int64_t>*, std::optional<double>*>;

  std::string name;  ///< without dashes: --name on the command line, name = value in the INI file
  Field field;       ///< set by parse(); a bool takes no value, a vector can be given several times
  /// Names the value in --help. Completion reads it too: "FILE" and "DIRECTORY" complete file names, the words of
  /// "f32|auto" complete themselves, and "…" at the end means a list with commas.
  std::string value;
  std::string help;                       ///< what the option does and when it is useful
  std::vector<std::string> choices = {};  ///< of a string: the values it can have; empty: any
  bool positional = false;                ///< can be given without its name; a vector then takes all words that follow
  std::vector<std::string> suggestions = {};  ///< values that completion offers, where others are valid too
  std::string shown_default = {};  ///< if not "": printed as the default in --help instead of the field's value
  /// The option of which this one is a part, as --width of --model: if the command line sets that option to another
  /// value than the INI file, the INI file's value of this one is not used.
  std::string part_of = {};
  std::string excludes = {};  ///< the option that cannot be given together with this one; each names the other
  std::string also = {};      ///< another name that is accepted, on the command line and in the INI file; "": none
  bool binary_units = false;  ///< of an integer: it can end in K, for 1024, or M, for 1024²
};

struct OptionGroup {
  std::string title;
  std::vector<Option> options;
};
/// The option of that name in the group, which must have it.
Option& find_option(OptionGroup& group, std::string_view name);
/// Inserts options after the one of that name.
void insert_after(OptionGroup& group, std::string_view name, const std::vector<Option>& options);

/// The INI file that --config names, and the options whose values it gave.
struct IniOrigin {
  std::string file;
  std::vector<std::string> options;
};

/// The options of a command, and the text of its --help.
struct CommandLine {
  std::string usage;        ///< after the command's name: "OPERATOR --in FILE --out FILE [options]"
  std::string description;  ///< blank lines separate paragraphs
  std::vector<OptionGroup> groups;
  std::string examples;         ///< command lines that can be pasted
  IniOrigin* origin = nullptr;  ///< if not null: set by parse()
};

/// The options that every command has in addition to its own.
struct GeneralOptions {
  std::string config;
  bool print_config = false;
  bool help = false;
};
OptionGroup general_group(GeneralOptions& general);

/// Sets the fields of `line` from the arguments that follow the command's name, and from the INI file that --config
/// names; the command line overrides the file. Returns the text to print instead of running, if --help or
/// --print-config was given. Throws Error(usage) with the name of the option, or of the file and the key.
std::optional<std::string> parse(const CommandLine& line, std::string_view command,
                                 std::span<const std::string> arguments);

/// The INI file that sets every field to its present value, whatever bytes it has.
std::string to_ini(const CommandLine& line);

/// The text of --help, and the command's part of the man page.
std::string help_text(const CommandLine& line, std::string_view command);
std::string roff_text(const CommandLine& line, std::string_view command, std::string_view summary);

}  // namespace causeway
