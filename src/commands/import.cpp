#include <optional>

#include "io/import.hpp"
#include "src/command.hpp"
#include "src/launch.hpp"
#include "src/progress.hpp"

namespace causeway {
namespace {

std::string format_list() {
  std::string text;
  for (const ImportFormat& format : import_formats()) text += fmt::format("\n  {:<8}{} ({})", format.name, format.summary, format.endings);
  return text;
}

CommandLine declare(ImportOptions& settings) {
  std::vector<std::string> formats = {"auto"};
  for (const ImportFormat& format : import_formats()) formats.emplace_back(format.name);
  return {.usage = "FILES… --out FILE [options]",
          .description = "Makes a dataset, HDF5, of sequences or texts. Byte b is token b; only the format 'tokens' has ids of its own. Files may be compressed with gzip. "
                         "They are read in their order and in little memory, however large; the dataset appears whole or not at all.\n\nFormats:" +
                         format_list(),
          .groups = {{"Input",
                      {{"files", &settings.files, "FILE", "what to read", {}, true},
                       {"format", &settings.format, "", "how the files are written; auto: by the ending of each name", formats},
                       {"uppercase", &settings.uppercase, "", "make a–z A–Z, for genomes whose lower case only marks repeats"},
                       {"vocabulary", &settings.vocabulary_size, "N", "ids there are; above 65536 a token takes 4 bytes instead of 2"}}},
                     {"Output",
                      {{"out", &settings.out, "FILE", "the dataset to write"},
                       {"hold-out", &settings.hold_out, "PART", "keep this part of all tokens, the last ones, out of it: 0.1 for a tenth; a document astride the cut is cut"},
                       {"hold-out-to", &settings.hold_out_to, "FILE", "the dataset those go to"}}}},
          .examples = "causeway import reads_1.fq.gz reads_2.fq.gz --out reads.h5\n"
                      "causeway import genome.fna.gz --out train.h5 --hold-out 0.1 --hold-out-to valid.h5\n"
                      "causeway import corpus.jsonl --out corpus.h5"};
}

std::string counted(std::int64_t documents, std::int64_t tokens) { return fmt::format("{} {}, {} tokens", documents, documents == 1 ? "document" : "documents", tokens); }

ExitCode execute(const ImportOptions& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;  // one process does it, however many a launcher started
  std::optional<Progress> bar;
  ImportOptions options = settings;
  options.progress = [&bar](const ImportProgress& progress) {
    if (!bar) bar.emplace("import", progress.bytes_total, "bytes");
    bar->update(progress.bytes_done, fmt::format("{} documents", progress.documents));
  };
  const ImportReport report = import_files(options);
  if (bar) bar->finish(fmt::format("{} documents", report.documents + report.held_out_documents));
  bar.reset();
  std::string text = fmt::format("{}: {}\n", options.out, counted(report.documents, report.tokens));
  if (!options.hold_out_to.empty()) text += fmt::format("{}: {}, held out\n", options.hold_out_to, counted(report.held_out_documents, report.held_out_tokens));
  if (report.empty_documents > 0) text += fmt::format("{} of the documents are empty; packing skips them\n", report.empty_documents);
  print_answer(text);
  return ExitCode::ok;
}

}  // namespace

Command import_command() { return make_command<ImportOptions, declare, execute>("import", "make a dataset of FASTA, FASTQ, text, JSONL or token ids"); }

}  // namespace causeway
