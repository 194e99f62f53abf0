/// `causeway generate`, run as a program. tests/src/model tests that its logits are those of one pass over the text.

#include <fmt/format.h>
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

/// The standard output of `causeway generate` with the run in `folder`.
std::string generated(const TemporaryFolder& folder, const std::string& options) {
  const Outcome outcome = shell(folder, "@causeway generate --checkpoint run " + options);
  EXPECT_EQ(outcome.exit, 0) << options << "\n" << outcome.err;
  return outcome.out;
}

TEST(Generate, ContinuesManyPromptsTheSameInAnyBatch) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  folder.write("p.fa", ">one description\nABC\nDE\n>two\nCDEABCDEABCDE\n>t\x1b[31m\nB\n");
  const std::string some = generated(folder, "--dtype f64 --prompts p.fa --samples 3 --tokens 40 --seed 4");
  for (const char* batch : {"1", "2", "4", "9"})
    EXPECT_EQ(
        generated(folder, fmt::format("--dtype f64 --prompts p.fa --samples 3 --tokens 40 --seed 4 --batch {}", batch)),
        some)
        << batch;
  EXPECT_EQ(some.find(">one sample=1\n"), 0u) << some;
  EXPECT_LT(some.find(">two sample=3\n"), some.find(">t\\x1b[31m sample=1\n")) << some;
  EXPECT_NE(some.find(">t\\x1b[31m sample=3\n"), some.npos) << some;

  folder.write("lines", "ABCDEABCDE\n\nCDEABCDE\n");
  const std::string first = generated(folder, "--dtype f64 --prompt ABCDEABCDE --tokens 20 --seed 3");
  EXPECT_EQ(generated(folder, "--dtype f64 --prompts lines --tokens 20 --seed 3 --format raw").find(first + "\n"), 0u)
      << "the first sample of the first prompt has the random numbers of a single one";
  EXPECT_EQ(generated(folder, "--prompts lines --tokens 6 --temperature 0"),
            ">lines:1 sample=1\nABCDEA\n>lines:3 sample=1\nABCDEA\n");
  EXPECT_EQ(shell(folder,
                  "sh -c '@causeway generate --checkpoint run --prompts - --prompts-format lines --format jsonl "
                  "--tokens 3 --temperature 0 < lines'")
                .out,
            "{\"name\":\"stdin:1\",\"sample\":1,\"prompt_tokens\":10,\"tokens\":3,\"stop\":null,\"text\":\"ABC\"}\n"
            "{\"name\":\"stdin:3\",\"sample\":1,\"prompt_tokens\":8,\"tokens\":3,\"stop\":null,\"text\":\"ABC\"}\n");
}

TEST(Generate, DrawsOnlyTheAlphabetAndEndsAtAStop) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  const std::string text = generated(folder, "--prompt ABC --tokens 300 --alphabet xyz --temperature 9");
  EXPECT_EQ(text.size(), 300u);
  EXPECT_EQ(text.find_first_not_of("xyz"), text.npos) << text;
  for (const char letter : {'x', 'y', 'z'}) EXPECT_NE(text.find(letter), text.npos) << letter;
  EXPECT_EQ(generated(folder, "--prompt ABCDE --tokens 50 --temperature 0 --alphabet BCDEA --stop 68"), "ABC");
  EXPECT_EQ(generated(folder, "--prompt ABCDE --tokens 50 --temperature 0 --stop 500 --stop 66,67"), "A");
  EXPECT_EQ(generated(folder, "--prompt ABCDE --tokens 50 --temperature 0 --stop 65"), "");
  EXPECT_EQ(generated(folder, "--prompt ABCDE --samples 2 --tokens 50 --temperature 0 --stop 67 --format jsonl"),
            "{\"name\":\"prompt\",\"sample\":1,\"prompt_tokens\":5,\"tokens\":2,\"stop\":67,\"text\":\"AB\"}\n"
            "{\"name\":\"prompt\",\"sample\":2,\"prompt_tokens\":5,\"tokens\":2,\"stop\":67,\"text\":\"AB\"}\n");
  const std::string stops = generated(folder,
                                      "--prompt ABC --samples 40 --tokens 30 --alphabet xy --stop 90 --format "
                                      "raw --temperature 9");
  EXPECT_EQ(stops.find_first_not_of("xy\n"), stops.npos)
      << "a stop outside the alphabet can be drawn, and is not written";
  EXPECT_LT(stops.size(), 40u * 31);
}

TEST(Generate, OfIdsReadsAndWritesIds) {
  const TemporaryFolder folder;
  std::string lines;
  for (int line = 0; line < 60; ++line) {
    for (int i = 0; i < 30; ++i) lines += fmt::format("{} ", 100 + 7 * ((i + line) % 4));
    lines += '\n';
  }
  folder.write("ids.txt", lines);
  folder.write("prompts", "100 107 114\n107 114 121 100\n");
  ASSERT_EQ(shell(folder, "@causeway import ids.txt --format tokens --vocabulary 1000 --out ids.h5").exit, 0);
  const Outcome trained = shell(folder,
                                "@causeway train --data ids.h5 --run run --layers 'mamba attention' --width 16 "
                                "--vocabulary 1000 --pack-tokens 256 --steps 60 --learning-rate 1e-2");
  ASSERT_EQ(trained.exit, 0) << trained.err;
  EXPECT_EQ(generated(folder, "--prompt-ids '100, 107 114' --tokens 6 --temperature 0"), "121 100 107 114 121 100\n");
  EXPECT_EQ(generated(folder, "--prompt-ids '121 100 107' --tokens 1 --temperature 0 --output bytes"), "r");
  EXPECT_EQ(
      generated(folder, "--prompts prompts --prompts-format ids --tokens 3 --temperature 0 --stop 114"),
      "{\"name\":\"prompts:1\",\"sample\":1,\"prompt_tokens\":3,\"tokens\":3,\"stop\":null,\"ids\":[121,100,107]}\n"
      "{\"name\":\"prompts:2\",\"sample\":1,\"prompt_tokens\":4,\"tokens\":1,\"stop\":114,\"ids\":[107]}\n");
}

TEST(Generate, ToAFileWritesAllOrNothing) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  const std::string options = "--prompt ABCDE --temperature 0 --out text --tokens ";
  EXPECT_EQ(generated(folder, options + "7"), "");
  EXPECT_EQ(testing::bytes_of(folder / "text"), "ABCDEAB");
  const std::size_t files = folder.count();
  EXPECT_EQ(shell(folder, "@causeway generate --checkpoint run " + options + "3").exit, 2);
  EXPECT_EQ(testing::bytes_of(folder / "text"), "ABCDEAB");
  EXPECT_EQ(generated(folder, options + "3 --force"), "");
  EXPECT_EQ(testing::bytes_of(folder / "text"), "ABC");
  EXPECT_EQ(folder.count(), files);
}

TEST(Generate, WrongOptionsAndPromptsAreRefused) {
  const TemporaryFolder folder;
  ASSERT_NO_FATAL_FAILURE(train_on_the_alphabet(folder));
  folder.write("empty", "");
  folder.write("no_sequence.fa", ">a\nABC\n>b\n");
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
      {generate + "--checkpoint ids --prompt A", 2,
       "--prompt: token 0 is 65, expected less than the model's vocabulary of 10"},
      {generate + "--checkpoint ids --prompt-ids '1 10'", 2, "found '10', expected token ids from 0 to 9"},
      {generate + "--checkpoint ids --prompt-ids 1 --alphabet AB", 2, "--alphabet: byte 65 is not below"},
      {generate + "--checkpoint ids --prompt-ids 1 --format fasta", 2, "--format fasta cannot hold token ids"},
      {generate + "--checkpoint run --prompts empty", 2, "--prompts empty: has no prompt"},
      {generate + "--checkpoint run --prompts no_sequence.fa", 2, "--prompts no_sequence.fa: 'b' is empty"},
      {generate + "--checkpoint run --prompts - < empty", 2, "expected --prompts-format"},
      {"sh -c 'echo A | " + generate + "--checkpoint run --prompts /dev/stdin'", 2, "expected --prompts-format"},
      {generate + "--checkpoint run --prompt A --stop x", 2, "--stop: found 'x', expected token ids from 0 to 511"},
      {generate + "--checkpoint run --prompt A --samples 0", 2, "--samples is 0"},
      {generate + "--checkpoint run --prompt A --batch 0", 2, "--batch is 0"},
      {generate + "--checkpoint run --prompt A --top-p 0", 2, "--top-p is 0"},
      {generate + "--checkpoint run --prompt A --out empty", 2, "--force"},
      {generate + "--checkpoint run --prompt A --out nowhere/x", 74, "nowhere/x"},
      {"@mpirun -n 2 " + generate + "--checkpoint run --prompt A", 2, "found 2 ranks"},
      {generate + "--checkpoint run --prompt A --ranks 3", 2, "found 3 ranks; with --shard parameters"},
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
