/// The program as a shell runs it: exit codes, what is printed where, and how several processes end.

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "tests/src/op/op_references.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

void write_conv_case(const std::string& path) {
  const ReferenceCase c = op_references().at("causal_conv").make(20, {0, 20}, true);
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  for (const auto& [name, values] : c.inputs) file.write<double>(name, c.shapes.at(name), values);
  file.set_attribute("activation", std::string("silu"));
  file.close();
}

struct Row {
  std::string arguments;
  int exit;
  std::string out, err;  ///< a part of what is printed there
};

/// Runs every row and compares exit code and output.
void expect_rows(const TemporaryFolder& folder, std::span<const Row> table) {
  for (const auto& [arguments, exit, out, err] : table) {
    const Outcome outcome = shell(folder, "@causeway " + arguments);
    EXPECT_EQ(outcome.exit, exit) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.out.find(out), std::string::npos) << arguments << "\n" << outcome.out;
    EXPECT_NE(outcome.err.find(err), std::string::npos) << arguments << "\n" << outcome.err;
    if (exit != 0) {
      EXPECT_EQ(count(outcome.err, "\n"), 1u) << "expected exactly one line: " << outcome.err;
    }
  }
}

TEST(CommandLineInterface, AnswersAndRefusalsHaveTheirExitCodes) {
  const TemporaryFolder folder;
  write_conv_case(folder / "case.h5");
  folder.write("good.ini", "in = case.h5\nout = r.h5\nlayout = zigzag\n");
  folder.write("bad.ini", "layuot = zigzag\n");
  const Row table[] = {
      {"--help", 0, "Exit codes", ""},
      {"train -h", 0, "--pack-tokens", ""},
      {"version", 0, "causeway", ""},
      {"-h", 0, "Commands:", ""},
      {"--version", 0, "causeway ", ""},
      {"--man", 0, ".TH CAUSEWAY", ""},
      {"op --help", 0, "usage: causeway op", ""},
      {"help", 0, "usage: causeway COMMAND", ""},
      {"help help", 0, "usage: causeway COMMAND", ""},
      {"help op", 0, "usage: causeway op", ""},
      {"help train", 0, "usage: causeway train", ""},
      {"--completion bash", 0, "complete -F _causeway causeway", ""},
      {"--completion zsh", 0, "#compdef causeway", ""},
      {"op --help", 0, "hyena_li        q [T,D], k [T,D], v [T,D], residues [D,M], log_rates [D,M], skip [D]?", ""},
      {"op --list", 0, "causal_conv\thalo\t", ""},
      {"op --list --batch x", 0, "causal_conv\thalo\t", ""},
      {"op causal_conv --print-config", 0, "operator = causal_conv", ""},
      {"op causal_conv --in case.h5 --out r.h5", 0, "", ""},
      {"op causal_conv --in case.h5 --out r.h5 --ranks 3 --backward", 0, "", ""},
      {"op causal_conv --config good.ini", 0, "", ""},
      {"op causal_conv --in case.h5 --dry-run --ranks 2", 0, "causal_conv halo", ""},
      {"", 2, "", "no command"},
      {"opp", 2, "", "did you mean 'op'"},
      {"help trian", 2, "", "unknown command 'trian'; did you mean 'train'"},
      {"hepl", 2, "", "did you mean 'help'"},
      {"help op train", 2, "", "help takes one command"},
      {"--completion fish", 2, "", "expected bash or zsh"},
      {"--hlep", 2, "", "unknown command"},
      {"''", 2, "", "unknown command"},
      {"op", 2, "", "--operator is missing"},
      {"op causal_conv", 2, "", "--in"},
      {"op causal_conv --in case.h5", 2, "", "--out"},
      {"op casual_conv --in case.h5 --out r.h5", 2, "", "did you mean 'causal_conv'"},
      {"op causal_conv --in case.h5 --out r.h5 --stratgy halo", 2, "", "did you mean '--strategy'"},
      {"op causal_conv --config bad.ini", 2, "", "bad.ini:1: unknown option 'layuot'"},
      {"op causal_conv --in case.h5 --out r.h5 --ranks 0", 2, "", "--ranks"},
      {"op causal_conv --in case.h5 --out r.h5 --ranks 99999", 2, "", "--ranks"},
      {"op causal_conv --in case.h5 --out r.h5 --transport pigeon", 2, "", "--transport"},
      {"op causal_conv --in case.h5 --out /nonexistent/r.h5", 74, "", "/nonexistent/r.h5"},
      {"op causal_conv --in missing.h5 --out r.h5 --ranks 3", 2, "", "missing.h5"},
      {"op --batch missing.txt", 2, "", "missing.txt"},
      {"op --batch .", 2, "", "--batch"},
      {"op causal_conv --batch missing.txt", 2, "", "--batch"},
      {"op --batch /dev/zero", 2, "", "--batch"},
  };
  expect_rows(folder, table);
}

TEST(CommandLineInterface, HelpOfACommandIsWhatItsHelpOptionPrints) {
  const TemporaryFolder folder;
  for (const char* command : {"import", "train", "op", "bench"}) {
    const Outcome outcome = shell(folder, fmt::format("@causeway help {}", command));
    EXPECT_EQ(outcome.exit, 0) << command;
    EXPECT_EQ(outcome.out, shell(folder, fmt::format("@causeway {} --help", command)).out);
  }
}

TEST(CommandLineInterface, DataCommandsAnswerAndRefuse) {
  const TemporaryFolder folder;
  folder.write("a.fa", ">one\nACGTACGTAC\n>two\nGG\n>three\n");
  folder.write("b.jsonl", "{\"text\": \"ACG\", \"id\": 4}\n");
  folder.write("bad.fa", ">one\nAC\x07T\n");
  folder.write("odd.h5", "no HDF5");
  folder.write("c.jsonl", "{\"a\": {\"b\": \"acgN\"}, \"n\": \"x\"}\n{}\n");
  const Row table[] = {
      {"import c.jsonl --out c.h5 --text-key a.b --name-key n --skip-bad --append-eod 0 --reverse-complement add "
       "--uppercase --lower-case-weight 0.1 --mask-ambiguous --mask-between '|' --max-line 1KiB",
       0, "c.h5: 2 documents, 10 tokens\n1 wrong record was passed over\n",
       "passed over: c.jsonl:2: found no \"a.b\", expected one in every object"},
      {"inspect c.h5", 0, "first names   x, x/rc", ""},
      {"import c.jsonl --out c.h5 --force", 2, "", "c.jsonl:1: found no \"text\""},
      {"import c.jsonl --out c.h5 --force --max-line 1MB", 2, "", "--max-line is '1MB', expected a number of bytes"},
      {"import c.jsonl --out c.h5 --force --append-eod 600", 2, "", "append-eod is 600"},
      {"import c.jsonl --out c.h5 --force --reverse-complement both", 2, "", "--reverse-complement"},
      {"import --format megatron - --out c.h5 --force", 2, "", "is read at any offset, expected the name of a file"},
      {"import a.fa b.jsonl --out data.h5", 0, "data.h5: 4 documents, 15 tokens\n1 of the documents is empty",
       "4 documents"},
      {"import a.fa --out upper.h5 --format fasta --uppercase --vocabulary 256", 0, "12 tokens", ""},
      {"import a.fa --out data.h5", 2, "", "data.h5: exists; --force replaces it"},
      {"import bad.fa --out data.h5", 2, "", "data.h5: exists; --force replaces it"},
      {"import a.fa b.jsonl --out data.h5 --force", 0, "data.h5: 4 documents", ""},
      {"split data.h5 --train train.h5 --valid valid.h5 --test test.h5 --held-out 0.2", 0,
       "held out  whole documents, drawn by seed 0\nleft out  empty documents: 1\n", "15 of 15 tokens"},
      {"split data.h5 --train train.h5 --valid new.h5", 2, "", "train.h5: exists; --force replaces it"},
      {"split data.h5 --train train.h5 --valid valid.h5 --force --by tail", 0,
       "valid                 1                 2     13.33 %      10 %   valid.h5", ""},
      {"split data.h5 --train x.h5 --valid ./x.h5", 2, "", "--train and --valid are the same file"},
      {"split test.h5 --train x.h5 --valid y.h5", 2, "", "--by tail cuts documents instead"},
      {"pack --data data.h5 --pack-tokens 10", 0, "greedy", ""},
      {"pack --data data.h5 --data data.h5 --pack-tokens 6 --report", 0, "first_fit_decreasing", ""},
      {"inspect data.h5 --verify", 0, "documents     4, 1 of them empty", ""},
      {"inspect data.h5", 0, "lengths       0 to 10, mean 3.8, median 3", ""},
      {"inspect data.h5", 0, "first names   one, two, three, 4", ""},
      {"inspect data.h5", 0, "G 33.33 %, A 26.67 %, C 26.67 %", ""},
      {"import a.fa", 2, "", "--out is missing"},
      {"import --out x.h5", 2, "", "--files is missing"},
      {"import bad.fa --out x.h5", 2, "", "bad.fa:2: found byte 0x07 in a sequence"},
      {"import odd.h5 --out x.h5", 2, "", "odd.h5: the format is not clear from its name"},
      {"import a.fa --out a.fa", 2, "", "a.fa: is input and output"},
      {"import a.fa --out /nonexistent/x.h5", 74, "", "/nonexistent/x.h5"},
      {"import a.fa --out .", 2, "", "is not a regular file"},
      {"pack", 2, "", "--data"},
      {"pack --data odd.h5", 2, "", "odd.h5: is not an HDF5 file"},
      {"pack --data data.h5 --pack-tokens 0", 2, "", "pack_tokens is 0"},
      {"pack --data data.h5 --pack-tokens 4 --long-documents refuse", 2, "", "document 0 has 10 tokens"},
      {"pack --data data.h5 --policy best", 2, "", "--policy"},
      {"inspect", 2, "", "--paths is missing"},
      {"inspect absent", 2, "", "absent: no such file"},
      {"inspect odd.h5", 2, "", "odd.h5: is not an HDF5 file"},
  };
  expect_rows(folder, table);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5"));
  std::string bytes = testing::bytes_of(folder / "data.h5");
  const Row damaged[] = {{"inspect cut.h5", 65, "", "cut.h5"}};
  folder.write("cut.h5", std::string_view(bytes).substr(0, bytes.size() / 2));
  expect_rows(folder, damaged);
}

TEST(CommandLineInterface, AnAnswerThatCannotBeWrittenIsAnError) {
  const TemporaryFolder folder;
  write_conv_case(folder / "case.h5");
  folder.write("list", "causal_conv --in case.h5 --out r.h5\n");
  for (const char* arguments : {"--help", "--version", "--man", "op --help", "help op", "--completion bash",
                                "op --list", "op --batch list", "op causal_conv --in case.h5 --dry-run"})
    EXPECT_EQ(shell(folder, fmt::format("sh -c '@causeway {} > /dev/full'", arguments)).exit, 74) << arguments;
}

TEST(CommandLineInterface, ABatchRunsEveryLineWhateverTheOthersDo) {
  const TemporaryFolder folder;
  write_conv_case(folder / "case.h5");
  write_conv_case(folder / "with space.h5");
  const std::pair<std::string, int> lines[] = {
      {"causal_conv --in case.h5 --out 1.h5 --backward", 0},
      {"causal_conv --in missing.h5 --out 2.h5", 2},
      {"causal_conv --in 'with space.h5' --out \"3 .h5\" --layout zigzag", 0},
      {"", 2},
      {"nonsense --in case.h5 --out 5.h5", 2},
      {"--batch list", 2},
      {"--list", 2},
      {"--help", 2},
      {"causal_conv --print-config", 2},
      {"causal_conv --in 'case.h5 --out 10.h5", 2},
      {"causal_conv --in case.h5 --out /nonexistent/11.h5", 74},
      {"causal_conv --in case.h5 --out 12.h5 --ranks 4", 2},
      {"causal_conv --in case.h5 --out 13.h5 --config missing.ini", 2},
      {"causal_conv --in case.h5 --out 14.h5 --dtype f64 --device cuda", 2},
      {"\x01\x02\xff\\", 2},
      {"causal_conv --in case.h5 --out 16.h5\r", 0},
  };
  std::string text;
  for (const auto& [line, exit] : lines) text += line + '\n';
  folder.write("list", text);
  for (const std::string start :
       {"@causeway op --batch list", "@causeway op --batch list --ranks 3", "@mpirun -n 3 @causeway op --batch list"}) {
    const Outcome outcome = shell(folder, start);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    std::istringstream got(outcome.out);
    int number = 0;
    for (const auto& [line, exit] : lines) {
      std::string reported;
      std::getline(got, reported);
      EXPECT_TRUE(reported.starts_with(fmt::format("{}\t{}\t", ++number, exit))) << start << "\n"
                                                                                 << line << "\n"
                                                                                 << reported;
    }
    EXPECT_EQ(count(outcome.out, "\n"), std::size(lines)) << outcome.out;
    for (const char* made : {"1.h5", "3 .h5", "16.h5"})
      EXPECT_TRUE(std::filesystem::remove(folder / made)) << start << " " << made;
    EXPECT_EQ(folder.count(), 5u) << start << ": a file is left beside the two cases, the list and the output";
  }
}

TEST(CommandLineInterface, ProcessesAnswerOnceAndEndWithOneCode) {
  const TemporaryFolder folder;
  write_conv_case(folder / "case.h5");
  struct Processes {
    std::string command;
    int exit;
    std::string printed;  ///< exactly once in the output of all processes
  };
  const std::string good = "@causeway op causal_conv --in case.h5 --out r.h5 --backward";
  const Processes table[] = {
      {"@mpirun -n 3 @causeway --help", 0, "usage: causeway COMMAND"},
      {"@mpirun -n 3 @causeway op --list", 0, "causal_conv\thalo\t"},
      {"@mpirun -n 3 " + good, 0, ""},
      {"@mpirun -n 3 @causeway op causal_conv --in missing.h5 --out r.h5", 2, "missing.h5"},
      {"@mpirun -n 3 @causeway op --nonsense", 2, "unknown option"},
      {"@mpirun -n 3 @causeway import missing.fa --out data.h5", 2, "missing.fa"},
      {"@mpirun -n 3 @causeway import --nonsense", 2, "unknown option"},
      {"@mpirun -n 3 @causeway imprt", 2, "did you mean 'import'"},
      {"@mpirun -n 3 " + good + " --ranks 2", 2, "--ranks is 2"},
      // Only one rank has the error; the others wait in a collective.
      {"@mpirun -n 2 " + good + " : -n 1 @causeway op causal_conv --in missing.h5 --out r.h5 --backward", 2,
       "missing.h5"},
      {"@mpirun -n 1 @causeway op causal_conv --in missing.h5 --out r.h5 --backward : -n 2 " + good, 2, "missing.h5"},
      {"@mpirun -n 2 " + good + " : -n 1 @causeway op --nonsense", 2, "unknown option"},
      {"@mpirun -n 1 @causeway op --nonsense : -n 2 " + good, 2, "unknown option"},
  };
  for (const auto& [command, exit, printed] : table) {
    const Outcome outcome = shell(folder, command);
    EXPECT_EQ(outcome.exit, exit) << command << "\n" << outcome.err;
    if (!printed.empty()) {
      EXPECT_EQ(count(outcome.out + outcome.err, printed), 1u) << command << "\n" << outcome.out << outcome.err;
    }
    EXPECT_EQ(std::filesystem::remove(folder / "r.h5"), exit == 0 && printed.empty()) << command;
    EXPECT_EQ(folder.count(), 3u) << command;
  }
}

TEST(CommandLineInterface, OneRanksOwnErrorEndsTheJobWithItsCode) {
  const TemporaryFolder folder;
  for (const int rank : {0, 1, 2}) {
    const Outcome outcome = shell(folder, fmt::format("@mpirun -n 3 {} {}", CAUSEWAY_TEST_LONE_FAILURE, rank));
    EXPECT_EQ(outcome.exit, 74) << outcome.err;
    EXPECT_EQ(count(outcome.err, fmt::format("causeway: rank {} (", rank)), 1u) << outcome.err;
    EXPECT_EQ(count(outcome.err, "disk is full"), 1u) << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
