#include "src/cli/config.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/cli/command.hpp"
#include "src/cli/suggest.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

struct Settings {
  std::string file;
  std::vector<std::string> data;
  std::int64_t steps = 100;
  int ranks = 1;
  double learning_rate = 3e-4;
  bool resume = false;
  std::string policy = "greedy";
  std::int64_t tokens = 4096;
};

CommandLine declare(Settings& s) {
  return {.usage = "[FILE] [options]",
          .description = "Does something.",
          .groups = {{"Input",
                      {{.name = "file", .field = &s.file, .value = "FILE", .help = "what to read", .positional = true},
                       {"data", &s.data, "F", "datasets"}}},
                     {"Training",
                      {{"steps", &s.steps, "N", "how many"},
                       {"ranks", &s.ranks, "N", "how many"},
                       {"learning-rate", &s.learning_rate, "X", "how fast"},
                       {"resume", &s.resume, "", "continue"},
                       {"policy", &s.policy, "", "how to pack", {"greedy", "split"}},
                       {.name = "tokens",
                        .field = &s.tokens,
                        .value = "N",
                        .help = "size",
                        .also = "size",
                        .binary_units = true}}}},
          .examples = "causeway thing a.h5"};
}

using Words = std::vector<std::string>;

std::optional<std::string> parse_into(Settings& settings, const Words& words) {
  return parse(declare(settings), "thing", words);
}

std::string error_of_parsing(const Words& words) {
  Settings settings;
  try {
    parse_into(settings, words);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

TEST(Config, FieldsKeepTheirDefaultsUnlessGiven) {
  Settings s;
  EXPECT_FALSE(parse_into(s, {}).has_value());
  EXPECT_EQ(s.steps, 100);
  EXPECT_EQ(s.policy, "greedy");
  EXPECT_FALSE(s.resume);
  EXPECT_FALSE(
      parse_into(s, {"--steps", "7", "--resume", "in.h5", "--learning-rate=1e-3", "--data", "a", "--data", "b"})
          .has_value());
  EXPECT_EQ(s.steps, 7);
  EXPECT_TRUE(s.resume);
  EXPECT_EQ(s.file, "in.h5") << "a switch must not take the next word as its value";
  EXPECT_EQ(s.learning_rate, 1e-3);
  EXPECT_EQ(s.data, (Words{"a", "b"}));
}

TEST(Config, NumbersOfTokensCanHaveBinaryUnits) {
  const TemporaryFolder folder;
  folder.write("run.ini", "tokens = 3M\n");
  const std::pair<Words, std::int64_t> rows[] = {{{"--tokens", "64K"}, 65536},
                                                 {{"--tokens=1M"}, 1048576},
                                                 {{"--tokens", "-2K"}, -2048},
                                                 {{"--tokens", "12"}, 12},
                                                 {{"--config", folder / "run.ini"}, 3 << 20}};
  for (const auto& [words, tokens] : rows) {
    Settings s;
    EXPECT_FALSE(parse_into(s, words).has_value());
    EXPECT_EQ(s.tokens, tokens) << words.back();
  }
  for (const char* wrong : {"K", "1.5K", "2k", "2KK", "K2", "9007199254740992K", "-9007199254740993K", "1G", "+K", ""})
    EXPECT_NE(error_of_parsing({"--tokens", wrong}).find("--tokens"), std::string::npos) << wrong;
  EXPECT_NE(error_of_parsing({"--steps", "1K"}).find("--steps"), std::string::npos);
}

TEST(Config, AnOptionCanHaveAnotherName) {
  const TemporaryFolder folder;
  folder.write("run.ini", "size = 3M\n");
  for (const auto& [words, tokens] : {std::pair<Words, std::int64_t>{{"--size", "64K"}, 65536},
                                      {{"--size=1M"}, 1048576},
                                      {{"--config", folder / "run.ini"}, 3 << 20},
                                      {{"--config", folder / "run.ini", "--tokens", "5"}, 5},
                                      {{"--config", folder / "run.ini", "--size", "5"}, 5}}) {
    Settings s;
    EXPECT_FALSE(parse_into(s, words).has_value());
    EXPECT_EQ(s.tokens, tokens) << words.back();
    EXPECT_NE(to_ini(declare(s)).find(fmt::format("\ntokens = {}\n", tokens)), std::string::npos);
  }
  Settings s;
  EXPECT_NE(parse_into(s, {"--help"})->find("size (also called --size)"), std::string::npos);
  EXPECT_NE(error_of_parsing({"--size", "many"}).find("--tokens is 'many'"), std::string::npos);
  EXPECT_NE(error_of_parsing({"--size", "1", "--tokens", "2"}).find("--tokens"), std::string::npos);
  EXPECT_NE(error_of_parsing({"--sizes", "1"}).find("unknown option '--sizes'"), std::string::npos);
}

TEST(Config, TheCommandLineWinsOverTheIniFile) {
  const TemporaryFolder folder;
  const std::string ini =
      folder.write("run.ini", "# a comment\nsteps = 5\nresume = true\ndata = x\ndata = y\npolicy=split # why\n");
  Settings s;
  parse_into(s, {"--config", ini, "--steps", "9", "--resume=false", "--data", "z"});
  EXPECT_EQ(s.steps, 9);
  EXPECT_FALSE(s.resume);
  EXPECT_EQ(s.data, Words{"z"});
  EXPECT_EQ(s.policy, "split");
}

TEST(Config, AnIniOfAWindowsEditorIsRead) {
  const TemporaryFolder folder;
  const std::string ini = folder.write("run.ini", "\xef\xbb\xbfsteps = 5\r\ndata = a b\r\n");
  Settings s;
  parse_into(s, {"--config", ini});
  EXPECT_EQ(s.steps, 5);
  EXPECT_EQ(s.data, Words{"a b"});
}

TEST(Config, ThePrintedIniRepeatsTheRun) {
  const TemporaryFolder folder;
  Settings first;
  const Words words = {"a b.h5",          "--data", "x:0.5",    "--data",   "y",
                       "--learning-rate", "0.1",    "--resume", "--policy", "split"};
  parse_into(first, words);
  Words printing = words;
  printing.push_back("--print-config");
  Settings ignored;
  const auto ini = parse_into(ignored, printing);
  ASSERT_TRUE(ini.has_value());
  Settings second;
  parse_into(second, {"--config", folder.write("run.ini", *ini)});
  EXPECT_EQ(second.file, first.file);
  EXPECT_EQ(second.data, first.data);
  EXPECT_EQ(second.learning_rate, first.learning_rate);
  EXPECT_EQ(second.resume, first.resume);
  EXPECT_EQ(second.policy, first.policy);
  EXPECT_EQ(second.steps, first.steps);
}

struct DependentSettings {
  std::string model;
  std::int64_t width = 0;
  std::optional<std::int64_t> steps;
  std::optional<double> epochs;
};

std::optional<std::string> parse_into(DependentSettings& s, const Words& words) {
  const CommandLine line{.groups = {{"Model",
                                     {{"model", &s.model, "NAME", "preset"},
                                      {.name = "width", .field = &s.width, .part_of = "model"},
                                      {.name = "steps", .field = &s.steps, .shown_default = "7", .excludes = "epochs"},
                                      {.name = "epochs", .field = &s.epochs, .excludes = "steps"}}}}};
  return parse(line, "thing", words);
}

TEST(Config, AnotherModelOnTheCommandLineTakesNoSizesFromTheIniFile) {
  const TemporaryFolder folder;
  const std::string ini = folder.write("run.ini", "model = a\nwidth = 5\n"),
                    without = folder.write("without.ini", "width = 5\n");
  const auto width = [](const Words& words) {
    DependentSettings s;
    parse_into(s, words);
    return s.width;
  };
  EXPECT_EQ(width({"--config", ini}), 5);
  EXPECT_EQ(width({"--config", ini, "--model", "a"}), 5);
  EXPECT_EQ(width({"--config", ini, "--model", "b"}), 0);
  EXPECT_EQ(width({"--config", ini, "--model", "b", "--width", "6"}), 6);
  EXPECT_EQ(width({"--config", without, "--model", "b"}), 5);
}

TEST(Config, OptionsThatExcludeEachOther) {
  const TemporaryFolder folder;
  const std::string ini = folder.write("run.ini", "steps = 5\n"),
                    both = folder.write("both.ini", "steps = 5\nepochs = 0.5\n");
  DependentSettings s;
  parse_into(s, {"--config", ini, "--epochs", "2"});
  EXPECT_FALSE(s.steps.has_value());
  EXPECT_EQ(s.epochs, 2);
  s = {};
  parse_into(s, {"--config", both, "--steps", "9"});
  EXPECT_EQ(s.steps, 9);
  EXPECT_FALSE(s.epochs.has_value());
  for (const Words& words : {Words{"--config", both}, Words{"--steps", "1", "--epochs", "1"}}) try {
      parse_into(s, words);
      ADD_FAILURE() << "both were accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("--steps and --epochs exclude each other"), std::string::npos);
    }
}

TEST(Config, AnOptionWithoutAValueIsACommentInTheIniFile) {
  DependentSettings s;
  const std::optional<std::string> ini = parse_into(s, {"--epochs", "1.5", "--print-config"});
  ASSERT_TRUE(ini.has_value());
  EXPECT_NE(ini->find("# steps =\n"), std::string::npos) << *ini;
  EXPECT_NE(ini->find("\nepochs = 1.5\n"), std::string::npos) << *ini;
}

TEST(Config, AnIniHoldsEveryValueThatACommandLineCanHave) {
  const TemporaryFolder folder;
  Words values = {"a#b",   " a",       "a ",    "a\nb",    "a\r", "\ta",   "50%",     "a=b",       "a;b",
                  "\"a\"", "\"a",      "a\"b",  "'a'",     "a\\", "a\\nb", "caf\xe9", "caf\u00e9", "[a]",
                  "-a",    "--data",   "#",     "\"",      "\\",  " ",     "a # b",   "\x1b[2J",   "\u202e",
                  "a:3",   "\xff\xfe", "\\x41", "\"a\" b", "漢",  "a\v"};
  for (int byte = 1; byte < 256; ++byte) values.emplace_back(1, static_cast<char>(byte));
  for (const std::string& value : values) {
    Settings first, ignored, second;
    const Words words = {"--file=" + value, "--data=x", "--data=" + value};
    parse_into(first, words);
    ASSERT_EQ(first.file, value);
    Words printing = words;
    printing.push_back("--print-config");
    const auto ini = parse_into(ignored, printing);
    ASSERT_TRUE(ini.has_value());
    parse_into(second, {"--config", folder.write("run.ini", *ini)});
    EXPECT_EQ(second.file, value) << *ini;
    EXPECT_EQ(second.data, (Words{"x", value})) << *ini;
  }
}

TEST(Config, QuotedValuesOfAnIniAreReadOrRefused) {
  const TemporaryFolder folder;
  Settings s;
  parse_into(s, {"--config", folder.write("good.ini", "  file = \"a # b\" # why\r\npolicy = \"split\"\n")});
  EXPECT_EQ(s.file, "a # b");
  EXPECT_EQ(s.policy, "split");
  for (const std::string text : {"file = \"a", "file = \"a\" b", "file = \"\\q\"", "file = \"\\x4\"",
                                 "file = \"\\x00\"", "file = \"\\", "[training]\nsteps = 3\n"}) {
    const std::string path = folder.write("bad.ini", "\n" + text);
    EXPECT_NE(error_of_parsing({"--config", path}).find(path + ":2: "), std::string::npos) << text;
  }
}

TEST(Config, HelpHasEveryOptionWithItsDefaultAndAnExample) {
  Settings s;
  const std::string text = parse_into(s, {"--help"}).value();
  for (const char* part : {"usage: causeway thing [FILE]", "--steps N", "[100]", "[0.0003]", "greedy|split",
                           "--config FILE", "causeway thing a.h5"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

struct BadWords {
  Words words;
  std::string said;
};

TEST(Config, WrongCommandLinesNameTheOption) {
  const BadWords table[] = {
      {{"--stepz", "3"}, "did you mean '--steps'"},
      {{"--ste", "3"}, "did you mean '--steps'"},
      {{"--steps"}, "--steps"},
      {{"--steps", "many"}, "--steps is 'many', expected a whole number"},
      {{"--steps", "1.5"}, "--steps is '1.5', expected a whole number"},
      {{"--steps", "99999999999999999999"}, "--steps is '99999999999999999999', expected a whole number from"},
      {{"--ranks", "3000000000"}, "--ranks is '3000000000', expected a whole number from"},
      {{"--steps", ""}, "--steps"},
      {{"--steps", "1", "--steps", "2"}, "--steps"},
      {{"--learning-rate", "fast"}, "--learning-rate is 'fast', expected a number"},
      {{"--resume=maybe"}, "--resume"},
      {{"--policy", "gredy"}, "did you mean 'greedy'"},
      {{"--policy", ""}, "--policy"},
      {{"one", "two"}, "more arguments"},
      {{"-x"}, "-x"},
      {{"--"}, ""},
      {{"--=3"}, ""},
      {{"--config", "/nonexistent/run.ini"}, "/nonexistent/run.ini"},
      {{"--config", "/"}, "directory"},
      {{"--config", "/dev/zero"}, "/dev/zero"},
      {{std::string(100000, 'x'), "y"}, "more arguments"},
      {{"--" + std::string(100000, 'x')}, "unknown option"},
  };
  for (const auto& [words, said] : table) {
    const std::string message = error_of_parsing(words);
    EXPECT_NE(message.find(said), std::string::npos) << words.front().substr(0, 40) << ": " << message.substr(0, 200);
    if (!said.empty()) {
      EXPECT_FALSE(message.empty()) << words.front();
    }
  }
}

TEST(Config, WrongIniFilesNameTheFileAndTheKey) {
  const TemporaryFolder folder;
  const std::pair<std::string, std::string> table[] = {
      {"stepz = 3\n", "stepz"},
      {"[training]\nsteps = 3\n", "[training]"},
      {"steps = many\n", "--steps is 'many', expected a whole number"},
      {"steps = 1\nsteps = 2\n", "steps"},
      {"steps\n", "steps"},
      {"= 3\n", ""},
      {"[\n", "["},
      {"\xff\xfe\x01 = 2\n", ""},
      {std::string("steps = 3\0", 10), "zero byte"},
      {"policy = best\n", "policy"},
      {"help = true\n", "help"},
      {"config = other.ini\n", "config"},
      {std::string(2 << 20, 'a'), "bytes"},
  };
  for (const auto& [text, said] : table) {
    const std::string path = folder.write("bad.ini", text);
    const std::string message = error_of_parsing({"--config", path});
    EXPECT_FALSE(message.empty()) << text.substr(0, 60);
    EXPECT_NE(message.find(said), std::string::npos) << message.substr(0, 200);
    if (said != "policy") {
      EXPECT_NE(message.find(path), std::string::npos) << message.substr(0, 200);
    }
  }
}

TEST(Config, EveryIniOfAFewRandomBytesIsReadOrRefused) {
  const TemporaryFolder folder;
  const std::string alphabet = "steps=policy[]#\n \t\"'\\0123456789.-+e\xff";
  std::uint64_t state = 1;
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += alphabet[(state >> 33) % alphabet.size()];
    }
    Settings s;
    try {
      parse_into(s, {"--config", folder.write("random.ini", text)});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
    }
  }
}

TEST(Suggestion, FindsCloseWordsAndNoOthers) {
  const Words known = {"train", "score", "op", "inspect"};
  EXPECT_EQ(did_you_mean("trian", known), "; did you mean 'train'?");
  EXPECT_EQ(did_you_mean("scor", known), "; did you mean 'score'?");
  EXPECT_EQ(did_you_mean("zebra", known), "");
  EXPECT_EQ(did_you_mean("", known), "");
}

TEST(Help, TextInTheManPageIsNeverTakenForRoff) {
  Settings s;
  CommandLine line = declare(s);
  line.description = ".TH is no request\n'nor this\na\\b – 1";
  const std::string text = roff_text(line, "thing", "does it");
  EXPECT_NE(text.find("\\&.TH is no request\n\\&'nor this\na\\eb \\[u2013] 1\n"), std::string::npos) << text;
}

TEST(Help, LongLinesThatStartWithASpaceContinueWithALargerIndent) {
  Settings s;
  CommandLine line = declare(s);
  line.description = "Formats:\n  fasta: " + std::string(60, 'a') + " " + std::string(60, 'b');
  const std::string expected = "Formats:\n  fasta: " + std::string(60, 'a') + "\n    " + std::string(60, 'b') + "\n";
  EXPECT_NE(help_text(line, "thing").find(expected), std::string::npos) << help_text(line, "thing");
}

TEST(Help, LinesThatStartWithASpaceStayAsTheyAre) {
  Settings s;
  CommandLine line = declare(s);
  line.description = "Formats:\n  fasta    a record";
  EXPECT_NE(help_text(line, "thing").find("Formats:\n  fasta    a record\n"), std::string::npos);
}

TEST(Help, ColumnsCountCharactersNotBytes) {
  Settings s;
  CommandLine line = declare(s);
  line.groups = {{"Group", {{"filter", &s.policy, "A[,B…]", "only these"}}}};
  EXPECT_NE(help_text(line, "thing").find("  --filter A[,B…]             only these [greedy]"), std::string::npos)
      << help_text(line, "thing");
}

TEST(Commands, EveryCommandDeclaresOptionsWithHelp) {
  for (const Command& command : commands()) {
    EXPECT_FALSE(command.summary.empty()) << command.name;
    command.describe([&](const CommandLine& line) {
      EXPECT_FALSE(line.examples.empty()) << command.name;
      EXPECT_FALSE(help_text(line, command.name).empty());
      EXPECT_NE(roff_text(line, command.name, command.summary).find(".TP"), std::string::npos);
      std::vector<std::string> names;
      for (const OptionGroup& group : line.groups)
        for (const Option& option : group.options) {
          EXPECT_FALSE(option.help.empty()) << command.name << " --" << option.name;
          names.push_back(option.name);
        }
      std::ranges::sort(names);
      EXPECT_EQ(std::ranges::adjacent_find(names), names.end()) << command.name << " declares an option twice";
    });
    EXPECT_THROW(command.run(command.name, Words{"--no-such-option"}), Error) << command.name;
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(command.run(command.name, Words{"--help"}), ExitCode::ok) << command.name;
    EXPECT_TRUE(::testing::internal::GetCapturedStdout().starts_with("usage: causeway ")) << command.name;
  }
}

}  // namespace
}  // namespace causeway::test
