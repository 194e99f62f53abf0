#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "src/cli/command.hpp"

namespace causeway {
namespace {

/// How a shell completes the value of one option.
struct ValueCompletion {
  enum class Files { none, files, folders };

  Files files = Files::none;
  std::vector<std::string> words;
  bool list = false;  ///< several words with commas
};

bool is_switch(const Option& option) { return std::holds_alternative<bool*>(option.field); }
bool repeats(const Option& option) { return std::holds_alternative<std::vector<std::string>*>(option.field); }

/// A word to type as it is, such as "auto"; names of values, such as "FILE", are in capitals.
bool is_literal(std::string_view word) {
  return !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}

ValueCompletion value_completion(const Option& option) {
  ValueCompletion found{.words = option.choices, .list = option.value.ends_with(",…")};
  const std::string& value = option.value;
  if (value.find("FILE") != std::string::npos)
    found.files = ValueCompletion::Files::files;
  else if (value.find("DIRECTORY") != std::string::npos || value == "RUN")
    found.files = ValueCompletion::Files::folders;
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t end = std::min(value.find('|', begin), value.size());
    if (const std::string word = value.substr(begin, end - begin); is_literal(word)) found.words.push_back(word);
    begin = end + 1;
  }
  for (const std::string& word : option.suggestions)
    if (std::ranges::find(found.words, word) == found.words.end()) found.words.push_back(word);
  return found;
}

/// Calls visit(command, options) for every command, with the options that every command has last.
template <class Visit>
void for_each_command(Visit&& visit) {
  for (const Command& command : commands())
    command.describe([&](const CommandLine& line) {
      GeneralOptions general;
      std::vector<Option> options;
      for (const OptionGroup& group : line.groups)
        options.insert(options.end(), group.options.begin(), group.options.end());
      const OptionGroup last = general_group(general);
      options.insert(options.end(), last.options.begin(), last.options.end());
      visit(command, options);
    });
}

constexpr std::string_view program_options[] = {"--help", "--version", "--man", "--completion"};

// ---------------------------------------------------------------- bash

/// "file" or "folder" where file names complete, else "any", or "list" for several words with commas; then the words.
std::string bash_value(const Option& option) {
  if (is_switch(option)) return "switch";
  const ValueCompletion value = value_completion(option);
  std::string text = value.list                                       ? "list"
                     : value.files == ValueCompletion::Files::files   ? "file"
                     : value.files == ValueCompletion::Files::folders ? "folder"
                                                                      : "any";
  for (const std::string& word : value.words) text += " " + word;
  return text;
}

/// The functions that contain the option table: the rest of the script only calls them.
std::string bash_tables() {
  std::string options_cases, value_cases, positional_cases;
  std::vector<std::string> names;
  for_each_command([&](const Command& command, const std::vector<Option>& options) {
    names.emplace_back(command.name);
    std::vector<std::string> flags;
    for (const Option& option : options) {
      flags.push_back("--" + option.name);
      value_cases += fmt::format("    {}:--{}) echo '{}' ;;\n", command.name, option.name, bash_value(option));
      if (option.positional) positional_cases += fmt::format("    {}) echo --{} ;;\n", command.name, option.name);
    }
    options_cases += fmt::format("    {}) echo {} ;;\n", command.name, fmt::join(flags, " "));
  });
  return fmt::format(
      "_causeway_commands='{}'\n_causeway_program_options='{}'\n\n"
      "# The options of command $1.\n_causeway_options() {{\n  case $1 in\n{}  esac\n}}\n\n"
      "# How the value of option $2 of command $1 completes, and the words it can be.\n"
      "_causeway_value() {{\n  case $1:$2 in\n{}  esac\n}}\n\n"
      "# The option of command $1 whose name can be left out.\n_causeway_positional() {{\n  case $1 in\n{}  esac\n}}\n",
      fmt::join(names, " "), fmt::join(program_options, " "), options_cases, value_cases, positional_cases);
}

constexpr std::string_view bash_head =
    "# Completion of causeway's command line in bash: `causeway --completion bash` writes this from the option table.\n"
    "# Source it, or install it as share/bash-completion/completions/causeway.\n\n";

constexpr std::string_view bash_function = R"BASH(
_causeway() {
  local i word piece=${COMP_WORDS[COMP_CWORD]} current option='' typed prefix='' head kind='' candidates=''
  local -a words=() value=()
  COMPREPLY=()
  # Bash divides words at '=' and ':'. Join the pieces.
  for ((i = 1; i <= COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    if ((i > 1)) && [[ $word == [=:]* || ${COMP_WORDS[i - 1]} == [=:] ]]; then
      words[${#words[@]} - 1]+=$word
    else
      words+=("$word")
    fi
  done
  current=${words[${#words[@]} - 1]}
  typed=$current

  if ((${#words[@]} == 1)); then
    candidates="$_causeway_commands help $_causeway_program_options"
  elif [[ ${words[0]} == help ]]; then
    candidates=$_causeway_commands
  elif [[ ${words[0]} == --completion ]]; then
    candidates='bash zsh'
  elif [[ $current == --*=* ]]; then
    option=${current%%=*} typed=${current#*=} prefix=${current%%=*}=
  else
    option=${words[${#words[@]} - 2]}
    [[ $option == --* ]] && kind=$(_causeway_value "${words[0]}" "$option")
    if [[ -z $kind || $kind == switch ]]; then
      option=$(_causeway_positional "${words[0]}")
      if [[ $current == -* || -z $option ]]; then
        option='' candidates=$(_causeway_options "${words[0]}")
      fi
    fi
  fi

  if [[ -n $option ]]; then
    read -ra value <<<"$(_causeway_value "${words[0]}" "$option")"
    kind=${value[0]} candidates=${value[*]:1}
    if [[ $kind == list && $typed == *,* ]]; then
      prefix+=${typed%,*}, typed=${typed##*,}
    fi
  fi
  mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$typed")
  case $kind in
    file | folder)
      local -a names
      mapfile -t names < <(if [[ $kind == file ]]; then compgen -f -- "$typed"; else compgen -d -- "$typed"; fi)
      COMPREPLY+=("${names[@]}")
      compopt -o filenames 2>/dev/null
      ;;
  esac

  # Readline replaces only the last piece of the word.
  [[ $piece != [=:] ]] || piece=''
  head=${current%"$piece"}
  for i in "${!COMPREPLY[@]}"; do
    word=$prefix${COMPREPLY[i]}
    COMPREPLY[i]=${word#"$head"}
  done
}

complete -F _causeway causeway
)BASH";

// ---------------------------------------------------------------- zsh

/// A text inside single quotes, with the characters escaped that _arguments reads in a specification.
std::string zsh_text(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\'')
      result += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      result += {'\\', c};
    else
      result += c == '\n' ? ' ' : c;
  }
  return result;
}

/// The action of _arguments that completes a value.
std::string zsh_action(const Option& option) {
  const ValueCompletion value = value_completion(option);
  const std::string words = fmt::format("({})", fmt::join(value.words, " "));
  if (value.list) return fmt::format("_sequence compadd - {}", fmt::join(value.words, " "));
  if (value.files == ValueCompletion::Files::none) return value.words.empty() ? " " : words;
  const std::string files = value.files == ValueCompletion::Files::folders ? "_files -/" : "_files";
  if (value.words.empty()) return files;
  return fmt::format("{{_alternative \"words:word:{}\" \"files:file:{}\"}}", words, files);
}

std::string zsh_option(const Option& option) {
  const std::string help = zsh_text(std::string_view(option.help).substr(0, option.help.find(';')));
  const std::string star = repeats(option) ? "*" : "";
  if (is_switch(option)) return fmt::format("        '{}--{}[{}]'", star, option.name, help);
  return fmt::format("        '{}--{}=[{}]:{}:{}'", star, option.name, help, option.name, zsh_action(option));
}

std::string zsh_script() {
  std::string names, cases;
  for_each_command([&](const Command& command, const std::vector<Option>& options) {
    names += fmt::format("        '{}:{}'\n", command.name, zsh_text(command.summary));
    std::vector<std::string> specifications;
    for (const Option& option : options) {
      specifications.push_back(zsh_option(option));
      if (option.positional)
        specifications.push_back(
            fmt::format("        '{}:{}:{}'", repeats(option) ? "*" : "1", option.name, zsh_action(option)));
    }
    cases += fmt::format("    {})\n      _arguments -s \\\n{}\n      ;;\n", command.name,
                         fmt::join(specifications, " \\\n"));
  });
  return fmt::format(
      "#compdef causeway\n"
      "# Completion of causeway's command line in zsh: `causeway --completion zsh` writes this from the option table.\n"
      "# Install it as _causeway in a folder of $fpath, such as share/zsh/site-functions.\n\n"
      "_causeway() {{\n"
      "  local curcontext=$curcontext state line\n"
      "  local -a names\n"
      "  names=(\n{}  )\n"
      "  _arguments -C '(- *)--help[print the overview]' '(- *)--version[print the version]' \\\n"
      "    '(- *)--man[print a man page]' '(- *)--completion=[print a completion script]:shell:(bash zsh)' \\\n"
      "    '1:command:->command' '*::argument:->argument'\n"
      "  case $state in\n"
      "    command) _describe command names; return ;;\n"
      "    argument) ;;\n"
      "    *) return ;;\n"
      "  esac\n"
      "  case $words[1] in\n"
      "    help) _describe command names ;;\n{}"
      "  esac\n"
      "}}\n\n"
      "_causeway \"$@\"\n",
      names + "        'help:print the help of a command'\n", cases);
}

}  // namespace

std::string completion_script(std::string_view shell) {
  if (shell == "bash") return fmt::format("{}{}{}", bash_head, bash_tables(), bash_function);
  require(shell == "zsh", "--completion is '{}', expected bash or zsh", shell);
  return zsh_script();
}

}  // namespace causeway
