#include "src/cli/suggest.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "src/cli/command.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::vector<std::string> options_of(std::string_view name) {
  std::vector<std::string> names;
  for (const Command& command : commands())
    if (command.name == name)
      command.describe([&](const CommandLine& line) {
        for (const OptionGroup& group : line.groups)
          for (const Option& option : group.options) names.push_back(option.name);
      });
  return names;
}

struct Row {
  std::string command, theirs, ours;
};

TEST(Suggestion, AnOptionFromElsewhereIsNamedAsItIsHere) {
  const Row table[] = {
      {"train", "lr", "--learning-rate"},
      {"train", "batch-size", "--pack-tokens"},
      {"train", "per_device_train_batch_size", "--accumulate"},
      {"train", "seq-length", "--pack-tokens"},
      {"train", "seq-len", "--pack-tokens"},
      {"train", "max_seq_len", "--pack-tokens"},
      {"train", "nproc", "mpirun -n N"},
      {"train", "nproc_per_node", "--ranks"},
      {"train", "np", "--ranks"},
      {"train", "n", "mpirun -n N"},
      {"train", "gpus", "mpirun -n N"},
      {"train", "output_dir", "--run"},
      {"import", "output", "--out"},
      {"train", "wandb", "metrics.jsonl"},
      {"train", "bf16", "--dtype"},
      {"train", "fp16", "--dtype"},
      {"train", "gradient-accumulation-steps", "--accumulate"},
      {"train", "grad-accum", "--accumulate"},
      {"train", "max-steps", "--steps"},
      {"train", "num_train_epochs", "--"},
      {"train", "checkpoint", "--resume"},
      {"score", "ckpt", "--checkpoint"},
      {"generate", "max-new-tokens", "--tokens"},
      {"train", "save-steps", "--checkpoint-every"},
      {"train", "val-data", "--valid-data"},
      {"train", "vocab-size", "--vocabulary"},
      {"train", "hidden-size", "--width"},
      {"train", "LR", "--learning-rate"},
      {"train", "stepz", "did you mean '--steps'?"},
  };
  for (const Row& row : table) {
    const std::string hint = option_hint(row.theirs, options_of(row.command), "--");
    EXPECT_NE(hint.find(row.ours), std::string::npos) << row.command << " " << row.theirs << hint;
  }
  // A command without the option gets no hint to it.
  EXPECT_EQ(option_hint("lr", options_of("import"), "--").find("learning-rate"), std::string::npos);
}

TEST(Suggestion, ACommandFromElsewhereIsNamedAsItIsHere) {
  const TemporaryFolder folder;
  for (const auto& [theirs, ours] :
       std::vector<std::pair<std::string, std::string>>{{"evaluate", "causeway score"},
                                                        {"eval", "causeway score"},
                                                        {"sample", "causeway generate"},
                                                        {"finetune", "--init-from"},
                                                        {"fine-tune", "--init-from"},
                                                        {"tokenize", "causeway import"},
                                                        {"preprocess", "causeway import"},
                                                        {"info", "causeway inspect"},
                                                        {"ls", "causeway inspect"},
                                                        {"monitor", "causeway watch"},
                                                        {"verify", "--verify"},
                                                        {"resume", "--resume auto"},
                                                        {"trian", "did you mean 'train'"}}) {
    const Outcome outcome = shell(folder, "@causeway " + theirs);
    EXPECT_EQ(outcome.exit, 2) << theirs;
    EXPECT_NE(outcome.err.find(ours), std::string::npos) << theirs << ": " << outcome.err;
  }
}

TEST(Remedy, WhatIsGivenInsteadOfADatasetOrACheckpointSaysWhatToDo) {
  const TemporaryFolder folder;
  folder.write("my.fa", ">a\nACGTACGTACGTAGCTAGCTAGCATCGATCGATCGAC\n");
  folder.write("ids.txt", "1 2 3 600\n4 5\n");
  ASSERT_EQ(shell(folder, "@causeway import my.fa --out d.h5").exit, 0);
  ASSERT_EQ(shell(folder, "@causeway import ids.txt --format tokens --vocabulary 1000 --out large.h5").exit, 0);
  const std::string small = "--model mamba-tiny --width 16 --layers-count 1 --pack-tokens 64 --steps 1";
  ASSERT_EQ(shell(folder, "@causeway train --data d.h5 --run r " + small).exit, 0);
  for (const char* name : {"reads.fastq", "reads.fq.gz", "corpus.jsonl", "corpus.txt", "ids.npy", "train.bin", "plain"})
    folder.write(name, "some text");
  const std::pair<std::string, std::string> table[] = {
      {"train --data my.fa --run x " + small, "causeway import my.fa --out my.h5"},
      {"train --data reads.fastq --run x " + small, "causeway import reads.fastq --out reads.h5"},
      {"score --checkpoint r --data reads.fq.gz --out s.h5", "causeway import reads.fq.gz --out reads.h5"},
      {"split corpus.jsonl --train a.h5 --valid b.h5", "causeway import corpus.jsonl --out corpus.h5"},
      {"pack --data corpus.txt", "causeway import corpus.txt --out corpus.h5"},
      {"inspect ids.npy", "causeway import"},
      {"watch d.h5", "d.h5: is a file, expected the folder of a run"},
      {"watch d.h5 --follow", "d.h5: is a file, expected the folder of a run"},
      {"train --data train.bin --run x " + small, "causeway import"},
      {"train --data plain --run x " + small, "causeway import plain --format FORMAT"},
      {"train --data r --run x " + small, "r: is the folder of a run or a checkpoint, expected a dataset"},
      {"train --data r/step-1 --run x " + small, "expected a dataset"},
      {"pack --data r/step-1/index.h5", "is not a dataset"},
      {"train --data . --run x " + small, ".: is a folder, expected a file"},
      {"train --data d.h5 --init-from d.h5 --run x " + small, "a dataset is given as --data"},
      {"score --checkpoint d.h5 --data d.h5 --out s.h5", "a dataset is given as --data"},
      {"generate --checkpoint my.fa --prompt A", "expected the folder of a checkpoint"},
      {"score --checkpoint missing --data d.h5 --out s.h5", "missing: no such folder"},
      {"train --data large.h5 --run x " + small, "--vocabulary 1000"},
      {"score --checkpoint r --data large.h5 --out s.h5", "--vocabulary 512"},
      {"train --data d.h5 --lr 1 --run x", "'--learning-rate'"},
  };
  for (const auto& [arguments, said] : table) {
    const Outcome outcome = shell(folder, "@causeway " + arguments);
    EXPECT_EQ(outcome.exit, 2) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(said), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(folder / "x")) << arguments;
  }
}

}  // namespace
}  // namespace causeway::test
