#include "io/data/split.hpp"

#include <fmt/format.h>

#include "src/cli/command.hpp"

namespace causeway {
namespace {

struct SplitSettings {
  std::string data, train, valid;
  double held_out = 0.1;
};

CommandLine declare(SplitSettings& settings) {
  return {
      .usage = "DATA --train FILE --valid FILE [--held-out FRACTION]",
      .description =
          "Divides a dataset: the last part is held out for validation. A document at the boundary is cut into two. "
          "Prints the sizes of both parts, and the loss of a unigram model (the token frequencies of the first part) "
          "on "
          "the held-out part: a trained model should reach a lower loss.",
      .groups = {{"Split",
                  {{"data", &settings.data, "FILE", "the dataset to divide", {}, true},
                   {"train", &settings.train, "FILE", "dataset to write: the first part"},
                   {"valid", &settings.valid, "FILE", "dataset to write: the held-out part"},
                   {"held-out", &settings.held_out, "FRACTION",
                    "fraction of the tokens to hold out, between 0 and 1"}}}},
      .examples = "causeway split data.h5 --train train.h5 --valid valid.h5 --held-out 0.1"};
}

ExitCode execute(const SplitSettings& settings) {
  require(!settings.data.empty(), "no dataset given; see 'causeway split --help'");
  require(!settings.train.empty() && !settings.valid.empty(),
          "--train and --valid are both needed: the datasets to write");
  require(settings.train != settings.valid, "--train and --valid are the same file, {}", settings.train);
  const DatasetSplit split = split_dataset(Dataset(settings.data), settings.held_out, settings.train, settings.valid);
  print_answer(
      fmt::format("train    {} tokens in {} documents, {}\nheld out {} tokens in {} documents, {}\nunigram  {:.4f} "
                  "nats a token on the held-out part\n",
                  split.train_tokens, split.train_documents, settings.train, split.valid_tokens, split.valid_documents,
                  settings.valid, split.unigram_loss));
  return ExitCode::ok;
}

}  // namespace

Command split_command() {
  return make_command<SplitSettings, declare, execute>("split", "hold out the last part of a dataset");
}

}  // namespace causeway
