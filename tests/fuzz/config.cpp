// The options of a command, from its command line or an INI file: refused, or printed as an INI file (--print-config)
// that sets the same options again.
#include <vector>

#include "src/cli/command.hpp"
#include "src/model/model_options.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace causeway::fuzz {
namespace {

/// The output of --print-config; nothing if the arguments are refused.
std::optional<std::string> ini_of(const Command& command, const std::vector<std::string>& arguments) {
  std::optional<std::string> ini;
  accepts(
      [&] {
        command.describe([&](const CommandLine& line) {
          if (!parse(line, command.name, arguments)) ini = to_ini(line);
        });
      },
      {ExitCode::usage});
  return ini;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines(1);
  for (const char byte : text)
    if (byte == '\n')
      lines.emplace_back();
    else
      lines.back() += byte;
  return lines;
}

void read_layers(std::string_view text) {
  std::vector<std::string> layers;
  if (accepts([&] { layers = parse_layers(text); }, {ExitCode::usage}))
    holds(parse_layers(layers_text(layers)) == layers, "--layers reads '{}' otherwise", layers_text(layers));
}

}  // namespace
}  // namespace causeway::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  if (size < 2) return 0;
  static const causeway::testing::TemporaryFolder folder;
  const std::string_view text = text_of(data + 2, size - 2);
  const Command& command = commands()[data[0] % commands().size()];
  if (data[1] % 8 == 7) read_layers(text);
  const bool from_file = data[1] % 2 == 0;
  if (!from_file && text.find('\0') != text.npos) return 0;  // a command line cannot contain a NUL
  const auto ini = ini_of(
      command, from_file ? std::vector<std::string>{"--config", folder.write("given.ini", text)} : lines_of(text));
  if (!ini) return 0;
  const auto again = ini_of(command, {"--config", folder.write("printed.ini", *ini)});
  holds(again == ini, "printed and read again:\n{}\nbut first\n{}", again.value_or("refused"), *ini);
  return 0;
}
