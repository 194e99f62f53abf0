/// `causeway generate`, run as a program. tests/src/model tests that its logits are those of one pass over the text.

#include <gtest/gtest.h>

#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Trains a model with every kind of layer in `folder`/run on repetitions of ABCDE.
void train_on_the_alphabet(const TemporaryFolder& folder) {
  std::string text;
  for (int line = 0; line < 40; ++line) {
    for (int i = 0; i < 40; ++i) text += static_cast<char>('A' + (i + line) % 5);
    text += '\n';
  }
  folder.write("text.txt", text);
  ASSERT_EQ(shell(folder, "@causeway import text.txt --format lines --out data.h5").exit, 0);
  const Outcome trained = shell(folder,
                                "@causeway train --data data.h5 --run run --layers 'se mr li attention mamba' --width "
                                "16 --mr-taps 8 --ffn 16 --pack-tokens 256 --steps 60 --learning-rate 1e-2");
  ASSERT_EQ(trained.exit, 0) << trained.err;
}

TEST(Generate, WritesTheMostLikelyBytesAndNothingElse) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  folder.write("prompt", "ABCDEABCDE");
  const auto text = [&](const std::string& options) {
    const Outcome outcome = shell(folder, "@causeway generate --checkpoint run " + options);
    EXPECT_EQ(outcome.exit, 0) << options << "\n" << outcome.err;
    return outcome.out;
  };
  const std::string greedy = text("--prompt ABCDEABCDE --tokens 13 --temperature 0");
  EXPECT_EQ(greedy, "ABCDEABCDEABC");
  EXPECT_EQ(text("--prompt-file prompt --tokens 13 --temperature 0 --seed 5"), greedy);
  EXPECT_EQ(text("--prompt ABCDEABCDE --tokens 13 --top-k 1"), greedy);
  EXPECT_EQ(text("--prompt ABCDEABCDE --tokens 13 --temperature 0 --dtype f64"), greedy);

  folder.write("any bytes", std::string("ABCDE\0\xff\nABCDEABCDE", 18));
  EXPECT_EQ(text("--prompt-file 'any bytes' --tokens 3 --temperature 0"), "ABC") << "a zero byte is a byte";

  const std::string hot = "--prompt 'Größe\n' --tokens 300 --temperature 5";
  EXPECT_EQ(text(hot).size(), 300u);
  EXPECT_EQ(text(hot), text(hot));
  EXPECT_NE(text(hot), text(hot + " --seed 1"));
}

TEST(Generate, WrongOptionsAndPromptsAreRefused) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  folder.write("empty", "");
  folder.write("tokens.txt", "1 2 3 4 5 6 7 8\n1 2 3 4 5 6\n");
  ASSERT_EQ(shell(folder, "@causeway import tokens.txt --format tokens --vocabulary 10 --out ids.h5").exit, 0);
  ASSERT_EQ(shell(folder, "@causeway train --data ids.h5 --run ids --width 8 --vocabulary 10 --steps 1").exit, 0);
  struct Row {
    std::string command;
    int exit;
    std::string error;
  };
  const std::string generate = "@causeway generate --tokens 5 ";
  const Row table[] = {
      {generate + "--prompt A", 2, "--checkpoint is missing"},
      {generate + "--checkpoint run", 2, "--prompt is empty"},
      {generate + "--checkpoint run --prompt ''", 2, "--prompt is empty"},
      {generate + "--checkpoint run --prompt-file empty", 2, "--prompt-file empty is empty"},
      {generate + "--checkpoint run --prompt-file nowhere", 2, "nowhere"},
      {generate + "--checkpoint run --prompt A --prompt-file empty", 2, "exclude each other"},
      {generate + "--checkpoint run --prompt A --temperature -1", 2, "--temperature is -1"},
      {generate + "--checkpoint run --prompt A --top-k -1", 2, "--top-k is -1"},
      {"@causeway generate --checkpoint run --prompt A --tokens 0", 2, "--tokens is 0"},
      {generate + "--checkpoint nowhere --prompt A", 2, "nowhere"},
      {generate + "--checkpoint ids --prompt A", 2, "vocabulary is 10, expected 512"},
      {"@mpirun -n 2 " + generate + "--checkpoint run --prompt A", 2, "found 2 ranks"},
      {generate + "--checkpoint run --prompt A --ranks 3", 2, "unknown option '--ranks'"},
      {"sh -c '" + generate + "--checkpoint run --prompt A > /dev/full'", 74, "standard output"},
  };
  for (const Row& row : table) {
    const Outcome outcome = shell(folder, row.command);
    EXPECT_EQ(outcome.exit, row.exit) << row.command << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.command << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << row.command;
  }
}

}  // namespace
}  // namespace causeway::test
