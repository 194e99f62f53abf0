#include "io/data/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "src/cli/command.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/cli/progress.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

struct SplitSettings : SplitOptions {
  std::string data;
};

CommandLine declare(SplitSettings& settings) {
  return {
      .usage = "DATA --train FILE --valid FILE [--test FILE] [options]",
      .description =
          "Divides a dataset into one to train on and one or two that are held out. By document, whole documents are "
          "drawn by a seed and keep their order; the held-out parts get as near to the fraction of the tokens as whole "
          "documents allow. By tail, the last tokens are held out, for data of one document or of documents in the "
          "order of time; a document at the boundary is cut. Empty documents are in no part.\n\n"
          "Prints the size of each part, and the loss of a unigram model (the token frequencies of the train part) on "
          "the held-out parts: a trained model should reach a lower loss.",
      .groups = {{"Input", {{"data", &settings.data, "FILE", "the dataset to divide", {}, true}}},
                 {"Division",
                  {{"held-out", &settings.held_out, "FRACTION",
                    "fraction of the tokens for --valid, and as much for --test"},
                   {"by",
                    &settings.by,
                    "",
                    "what is held out: whole documents, or the tail of the data",
                    {"document", "tail"}},
                   {"seed", &settings.seed, "N", "seed of the draw of documents; the same seed gives the same parts"}}},
                 {"Output",
                  {{"train", &settings.train, "FILE", "dataset to write: what is not held out"},
                   {"valid", &settings.valid, "FILE", "dataset to write: the held-out part"},
                   {"test", &settings.test, "FILE", "dataset to write: a second held-out part"},
                   {"force", &settings.force, "", "replace files that exist"}}}},
      .examples =
          "causeway split data.h5 --train train.h5 --valid valid.h5\n"
          "causeway split data.h5 --train train.h5 --valid valid.h5 --test test.h5 --held-out 0.05 --seed 1\n"
          "causeway split genome.h5 --train train.h5 --valid valid.h5 --by tail"};
}

std::string percent(double fraction) { return fmt::format("{:.4g} %", 100 * fraction); }

std::string report(const SplitSettings& settings, const DatasetSplit& split) {
  std::string text =
      fmt::format("{:<9}{:>14}{:>18}{:>12}{:>10}   file\n", "part", "documents", "tokens", "of all", "asked");
  for (const SplitPart& part : split.parts)
    text +=
        fmt::format("{:<9}{:>14}{:>18}{:>12}{:>10}   {}\n", part.name, grouped(part.documents), grouped(part.tokens),
                    percent(static_cast<double>(part.tokens) / static_cast<double>(split.tokens)), percent(part.asked),
                    one_line(part.path));
  text += settings.by == "document" ? fmt::format("held out  whole documents, drawn by seed {}\n", settings.seed)
                                    : std::string("held out  the last tokens\n");
  if (split.empty_documents > 0) text += fmt::format("left out  empty documents: {}\n", grouped(split.empty_documents));
  for (const SplitPart& part : split.parts)
    if (&part != &split.parts.front())
      text += fmt::format("unigram   {} nats a token on {}\n",
                          part.unigram_loss ? fmt::format("{:.4f}", *part.unigram_loss) : "–", part.name);
  return text;
}

ExitCode execute(const SplitSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.data.empty(), "--data is missing: expected the dataset to divide");
  require(!settings.train.empty(), "--train is missing: expected the dataset to write what is not held out");
  require(!settings.valid.empty(), "--valid is missing: expected the dataset to write the held-out part");
  std::optional<Progress> bar;
  SplitOptions options = settings;
  options.progress = [&bar](std::int64_t done, std::int64_t tokens) {
    if (!bar) bar.emplace("split", tokens, "tokens");
    bar->update(done);
  };
  const DatasetSplit split = split_dataset(settings.data, options);
  if (bar) bar->finish();
  bar.reset();
  if (split.latin1_names > 0)
    Log().warn("{}: names that are not UTF-8, taken as Latin-1: {}", settings.data, split.latin1_names);
  print_answer(report(settings, split));
  return ExitCode::ok;
}

}  // namespace

Command split_command() {
  return make_command<SplitSettings, declare, execute>("split", "hold out a part of a dataset, or two");
}

}  // namespace causeway
