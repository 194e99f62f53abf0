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
          "Cuts a dataset in two: the last part is held out, to measure on what was never trained on. The document the "
          "cut falls into is cut. "
          "Prints the sizes, and the loss of a unigram (token frequencies of the first part) on the second, which a "
          "model has to beat.",
      .groups = {{"Split",
                  {{"data", &settings.data, "FILE", "dataset to cut", {}, true},
                   {"train", &settings.train, "FILE", "where the first part goes"},
                   {"valid", &settings.valid, "FILE", "where the held-out part goes"},
                   {"held-out", &settings.held_out, "FRACTION", "part of the tokens to hold out, between 0 and 1"}}}},
      .examples = "causeway split data.h5 --train train.h5 --valid valid.h5 --held-out 0.1"};
}

ExitCode execute(const SplitSettings& settings) {
  require(!settings.data.empty(), "no dataset given; see 'causeway split --help'");
  require(!settings.train.empty() && !settings.valid.empty(),
          "--train and --valid say where the two parts go, and one is missing");
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
  return make_command<SplitSettings, declare, execute>("split", "hold the last part of a dataset out");
}

}  // namespace causeway
