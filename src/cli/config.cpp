#include "src/cli/config.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <boost/lexical_cast/try_lexical_convert.hpp>
#include <boost/program_options.hpp>
#include <charconv>
#include <limits>
#include <sstream>

#include "kernels/core/error.hpp"
#include "src/cli/suggest.hpp"
#include "src/cli/text_file.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

namespace po = boost::program_options;

template <class Visit>
void each_option(const CommandLine& line, Visit&& visit) {
  for (const OptionGroup& group : line.groups)
    for (const Option& option : group.options) visit(option);
}

std::vector<std::string> names_of(const CommandLine& line) {
  std::vector<std::string> names;
  each_option(line, [&](const Option& option) { names.push_back(option.name); });
  return names;
}

/// The type of an option's text: of an optional field, the type of its value.
template <class Field>
struct ValueOf {
  using type = Field;
};
template <class T>
struct ValueOf<std::optional<T>> {
  using type = T;
};
template <class Pointer>
using Value = typename ValueOf<std::remove_cv_t<std::remove_pointer_t<Pointer>>>::type;

/// The rows as Boost.Program_options takes them, to parse the texts.
po::options_description parser_of(const CommandLine& line) {
  po::options_description parser;
  each_option(line, [&](const Option& option) {
    const po::value_semantic* semantic = std::visit(
        [](auto* field) -> const po::value_semantic* { return po::value<Value<decltype(field)>>(); }, option.field);
    parser.add_options()(option.name.c_str(), semantic);
  });
  return parser;
}

void assign(const Option& option, const boost::any& parsed) {
  std::visit([&](auto* field) { *field = boost::any_cast<Value<decltype(field)>>(parsed); }, option.field);
}

void check_choice(const Option& option) {
  const auto* const* field = std::get_if<std::string*>(&option.field);
  if (field == nullptr || option.choices.empty()) return;
  const std::string& found = **field;
  if (std::ranges::find(option.choices, found) != option.choices.end()) return;
  require(!found.empty(), "--{} is missing: expected {}", option.name, fmt::join(option.choices, ", "));
  fail(ExitCode::usage, "--{} is '{}', expected {}{}", option.name, found, fmt::join(option.choices, ", "),
       did_you_mean(found, option.choices));
}

std::string without_dashes(const std::string& name) {
  const std::size_t first = name.find_first_not_of('-');
  return first == std::string::npos ? name : name.substr(first);
}

/// The option's name, of either name that it has.
std::string name_of(const CommandLine& line, std::string_view typed) {
  std::string name(typed);
  each_option(line, [&](const Option& option) {
    if (!option.also.empty() && typed == option.also) name = option.name;
  });
  return name;
}

/// The arguments with the name of each option for its other name, and with "--backward" written as "--backward=true":
/// without a value, Boost takes the next word for it.
std::vector<std::string> with_plain_names(const CommandLine& line, std::span<const std::string> arguments) {
  std::vector<std::string> words(arguments.begin(), arguments.end());
  for (std::string& word : words)
    if (const std::size_t end = std::min(word.find('='), word.size()); word.starts_with("--"))
      word.replace(2, end - 2, name_of(line, std::string_view(word).substr(2, end - 2)));
  each_option(line, [&](const Option& option) {
    if (std::holds_alternative<bool*>(option.field))
      std::ranges::replace(words, "--" + option.name, "--" + option.name + "=true");
  });
  return words;
}

po::parsed_options parse_arguments(const CommandLine& line, const po::options_description& parser,
                                   std::span<const std::string> arguments) {
  po::positional_options_description positional;
  each_option(line, [&](const Option& option) {
    if (option.positional)
      positional.add(option.name.c_str(), std::holds_alternative<std::vector<std::string>*>(option.field) ? -1 : 1);
  });
  namespace style = po::command_line_style;
  // No abbreviations: the meaning of a script must not change when an option is added.
  try {
    return po::command_line_parser(with_plain_names(line, arguments))
        .options(parser)
        .positional(positional)
        .style((style::default_style & ~style::allow_guessing) & ~style::allow_sticky)
        .run();
  } catch (const po::unknown_option& error) {
    const std::string typed = without_dashes(error.get_option_name());
    fail(ExitCode::usage, "unknown option '{}'{}", error.get_option_name(), option_hint(typed, names_of(line), "--"));
  } catch (const po::too_many_positional_options_error&) {
    fail(ExitCode::usage, "more arguments than the usage '{}' has", line.usage);
  }
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\v\f";
  const std::size_t begin = std::min(text.find_first_not_of(blanks), text.size());
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

/// The text of a quoted value: the reverse of quoted(). `text` is trimmed and starts with a quotation mark; only a
/// comment may follow the value.
std::string unquoted(std::string_view text, const std::string& where) {
  constexpr std::string_view hexadecimal = "0123456789abcdef";
  std::string value;
  for (text.remove_prefix(1); !text.empty(); text.remove_prefix(1)) {
    if (text.front() == '"') {
      const std::string_view rest = trimmed(text.substr(1));
      require(rest.empty() || rest.front() == '#', "{}: '{}' follows the quoted value", where, rest);
      return value;
    }
    if (text.front() != '\\') {
      value += text.front();
      continue;
    }
    text.remove_prefix(1);
    const char code = text.empty() ? '\0' : text.front();
    if (code == '"' || code == '\\') {
      value += code;
    } else if (code == 'n' || code == 't' || code == 'r') {
      value += code == 'n' ? '\n' : code == 't' ? '\t' : '\r';
    } else {
      const std::size_t high = text.size() > 2 ? hexadecimal.find(text[1]) : hexadecimal.npos;
      const std::size_t low = text.size() > 2 ? hexadecimal.find(text[2]) : hexadecimal.npos;
      require(code == 'x' && high < 16 && low < 16 && high + low > 0,
              "{}: the quoted value has a \\ that is not followed by \", \\, n, t, r or x with two digits 0–f, not 00",
              where);
      value += static_cast<char>(16 * high + low);
      text.remove_prefix(2);
    }
  }
  fail(ExitCode::usage, "{}: the quoted value has no quotation mark at its end", where);
}

/// The value as an INI line has it: in quotes where it would be read differently without them, or could not be shown.
std::string quoted(std::string_view text) {
  bool plain = trimmed(text) == text && text.find('#') == text.npos && !text.starts_with('"');
  std::string inside;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view character = rest.substr(0, first_character(rest).bytes);
    rest.remove_prefix(character.size());
    if (one_line(character) != character) {
      plain = false;
      for (const char byte : character)
        inside += byte == '\n'   ? "\\n"
                  : byte == '\t' ? "\\t"
                  : byte == '\r' ? "\\r"
                                 : fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    } else {
      inside += character == "\"" || character == "\\" ? fmt::format("\\{}", character) : std::string(character);
    }
  }
  return plain ? std::string(text) : fmt::format("\"{}\"", inside);
}

/// Reads an INI file: name = value, and comments after #. (Boost's reader has no quotes: it could not read every path.)
po::parsed_options parse_ini(const CommandLine& line, const po::options_description& parser, const std::string& path) {
  po::parsed_options parsed(&parser);
  std::istringstream text(read_text(path, "--config", std::size_t{1} << 20));
  int number = 0;
  for (std::string row; std::getline(text, row);) {
    const std::string where = fmt::format("{}:{}", path, ++number);
    const std::string_view content = trimmed(row);
    if (content.empty() || content.front() == '#') continue;
    require(content.front() != '[', "{}: found a section, '{}', but options have no sections", where, content);
    const std::size_t equals = content.find('='), comment = content.find('#');
    require(equals < comment, "{}: found '{}', expected name = value", where, content);
    const std::string name = name_of(line, trimmed(content.substr(0, equals)));
    require(!name.empty() && parser.find_nothrow(name, false) != nullptr, "{}: unknown option '{}'{}", where, name,
            option_hint(name, names_of(line), ""));
    const std::string_view value = trimmed(content.substr(equals + 1));
    po::option option;
    option.string_key = name;
    option.value = {value.starts_with('"') ? unquoted(value, where)
                                           : std::string(trimmed(value.substr(0, value.find('#'))))};
    parsed.options.push_back(std::move(option));
  }
  return parsed;
}

/// "64K" as "65536". What is no such number is left as it is, for Boost to refuse.
std::string without_unit(const std::string& text) {
  const std::int64_t unit = text.ends_with('K') ? 1 << 10 : text.ends_with('M') ? 1 << 20 : 1;
  if (unit == 1) return text;
  std::int64_t count = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size() - 1, count);
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / unit;
  const bool whole = error == std::errc() && stop + 1 == text.data() + text.size();
  return whole && count >= -most && count <= most ? fmt::format("{}", count * unit) : text;
}

void expand_units(const CommandLine& line, po::parsed_options& parsed) {
  each_option(line, [&](const Option& option) {
    for (po::option& given : parsed.options)
      if (option.binary_units && given.string_key == option.name)
        std::ranges::transform(given.value, given.value.begin(), without_unit);
  });
}

template <class T>
std::string number_expected(const Option& option) {
  if (option.binary_units) return "a whole number, which can end in K (1024) or M (1024²)";
  if (!std::is_integral_v<T>) return "a number";
  return fmt::format("a whole number from {} to {}", std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
}

/// Refuses a text that is no number of the option's type: Boost's error does not say what is expected.
template <class T>
void check_number(const Option& option, const std::string& text) {
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    T value{};
    require(boost::conversion::try_lexical_convert(text, value), "--{} is '{}', expected {}", option.name, text,
            number_expected<T>(option));
  }
}

void check_numbers(const CommandLine& line, const po::parsed_options& parsed) {
  each_option(line, [&](const Option& option) {
    for (const po::option& given : parsed.options)
      if (given.string_key == option.name)
        for (const std::string& text : given.value)
          std::visit([&](auto* field) { check_number<Value<decltype(field)>>(option, text); }, option.field);
  });
}

/// The last text given for an option; no value where it is not given.
std::optional<std::string> text_of(const po::parsed_options& parsed, const std::string& name) {
  std::optional<std::string> text;
  for (const auto& option : parsed.options)
    if (option.string_key == name && !option.value.empty()) text = option.value.back();
  return text;
}

/// Removes the options of the INI file that one on the command line overrides.
void remove_overridden(const CommandLine& line, const po::parsed_options& arguments, po::parsed_options& ini) {
  std::vector<std::string> removed;
  each_option(line, [&](const Option& option) {
    const auto whole = text_of(arguments, option.part_of), whole_in_ini = text_of(ini, option.part_of);
    if ((whole && whole_in_ini && whole != whole_in_ini) || text_of(arguments, option.excludes))
      removed.push_back(option.name);
  });
  std::erase_if(ini.options,
                [&](const auto& option) { return std::ranges::find(removed, option.string_key) != removed.end(); });
}

IniOrigin origin_of(const std::string& path, const po::parsed_options& ini, const po::parsed_options& arguments) {
  IniOrigin origin{.file = path};
  for (const auto& option : ini.options)
    if (!text_of(arguments, option.string_key)) origin.options.push_back(option.string_key);
  return origin;
}

void check_exclusions(const CommandLine& line, const po::variables_map& values) {
  each_option(line, [&](const Option& option) {
    require(option.excludes.empty() || values.count(option.name) == 0 || values.count(option.excludes) == 0,
            "--{} and --{} exclude each other: expected one of them", option.name, option.excludes);
  });
}

void store_ini(const CommandLine& line, const po::parsed_options& parsed, const std::string& path,
               po::variables_map& values) {
  try {
    check_numbers(line, parsed);
    po::store(parsed, values);
  } catch (const std::exception& error) {
    fail(ExitCode::usage, "{}: {}", path, error.what());
  }
}

/// The line of the INI file that sets an option.
std::string ini_line(const Option& option, std::string_view text) {
  return fmt::format("{} = {}\n", option.name, quoted(text));
}

}  // namespace

Option& find_option(OptionGroup& group, std::string_view name) {
  const auto found = std::ranges::find(group.options, name, &Option::name);
  ensure(found != group.options.end(), "group '{}' has no option '{}'", group.title, name);
  return *found;
}

void insert_after(OptionGroup& group, std::string_view name, const std::vector<Option>& options) {
  const auto place = &find_option(group, name) - group.options.data() + 1;
  group.options.insert(group.options.begin() + place, options.begin(), options.end());
}

OptionGroup general_group(GeneralOptions& general) {
  return {"General",
          {{"config", &general.config, "FILE",
            "read options from an INI file: name = value, or name = \"value\" with the escapes \\\" \\\\ \\n \\t \\r "
            "\\xNN; # "
            "starts a comment; the command line overrides the file"},
           {"print-config", &general.print_config, "", "print the INI file that repeats this run, and stop"},
           {"help", &general.help, "", "print this text, and stop"}}};
}

std::optional<std::string> parse(const CommandLine& line, std::string_view command,
                                 std::span<const std::string> arguments) {
  GeneralOptions general;
  CommandLine whole = line;
  whole.groups.push_back(general_group(general));
  const po::options_description parser = parser_of(whole);
  po::variables_map values;
  try {
    po::parsed_options given = parse_arguments(whole, parser, arguments);
    expand_units(whole, given);
    check_numbers(whole, given);
    po::store(given, values);
    if (values.count("help") != 0) return help_text(whole, command);
    if (values.count("config") != 0) {
      const auto path = values["config"].as<std::string>();
      const po::options_description ini_parser = parser_of(line);
      po::parsed_options ini = parse_ini(line, ini_parser, path);
      expand_units(line, ini);
      remove_overridden(line, given, ini);
      store_ini(line, ini, path, values);
      if (line.origin != nullptr) *line.origin = origin_of(path, ini, given);
    }
    check_exclusions(line, values);
    each_option(whole, [&](const Option& option) {
      if (values.count(option.name) != 0) assign(option, values[option.name].value());
      check_choice(option);
    });
  } catch (const po::error& error) {
    fail(ExitCode::usage, "{}: {}; see 'causeway {} --help'", command, error.what(), command);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", command, error.what()));
  }
  if (general.print_config) return to_ini(line);
  return std::nullopt;
}

std::string to_ini(const CommandLine& line) {
  std::string text;
  for (const OptionGroup& group : line.groups) {
    text += fmt::format("{}# {}\n", text.empty() ? "" : "\n", group.title);
    for (const Option& option : group.options)
      std::visit(
          [&](const auto* field) {
            using T = std::remove_cv_t<std::remove_pointer_t<decltype(field)>>;
            if constexpr (std::is_same_v<T, std::vector<std::string>>) {
              for (const std::string& item : *field) text += ini_line(option, item);
            } else if constexpr (!std::is_same_v<T, Value<decltype(field)>>) {
              text += *field ? ini_line(option, fmt::format("{}", **field)) : fmt::format("# {} =\n", option.name);
            } else {
              const std::string value = fmt::format("{}", *field);
              text += value.empty() ? fmt::format("# {} =\n", option.name) : ini_line(option, value);
            }
          },
          option.field);
  }
  return text;
}

}  // namespace causeway
