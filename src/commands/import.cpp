#include <optional>

#include "io/data/import.hpp"
#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/log.hpp"
#include "src/cli/progress.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

std::string format_list() {
  std::string text;
  for (const ImportFormat& format : import_formats())
    text += fmt::format("\n  {:<8}{} ({})", format.name, format.summary, format.endings);
  return text;
}

CommandLine declare(ImportOptions& settings) {
  std::vector<std::string> formats = {"auto"};
  for (const ImportFormat& format : import_formats()) formats.emplace_back(format.name);
  return {
      .usage = "FILES… --out FILE [options]",
      .description =
          "Makes a dataset (HDF5) from sequences or texts. Token ids are byte values, except in the format 'tokens', "
          "which contains ids. Files can be compressed with gzip, zstd, xz or bzip2, whatever their names are. Lines "
          "end with LF, CR LF or CR. Files are read in "
          "the given order; memory use does not grow with their size. The dataset appears under its name when it is "
          "complete, or not at "
          "all.\n\nFormats:" +
          format_list(),
      .groups = {{"Input",
                  {{"files", &settings.files, "FILE", "files to read; - is standard input", {}, true},
                   {"format", &settings.format, "", "format of the files; auto: by the ending of each file name",
                    formats},
                   {"uppercase", &settings.uppercase, "",
                    "convert a–z to A–Z, for genomes in which lower case only marks repeats"},
                   {"vocabulary", &settings.vocabulary_size, "N",
                    "number of token ids; above 65536 a token takes 4 bytes instead of 2"}}},
                 {"Output",
                  {{"out", &settings.out, "FILE", "the dataset to write; causeway split divides it for validation"},
                   {"force", &settings.force, "", "replace the dataset if it exists"}}}},
      .examples =
          "causeway import reads_1.fq.gz reads_2.fq.gz --out reads.h5\n"
          "causeway import genome.fna.gz --out train.h5\n"
          "causeway import corpus.jsonl --out corpus.h5"};
}

ExitCode execute(const ImportOptions& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;  // one process imports, however many a launcher started
  std::optional<Progress> bar;
  ImportOptions options = settings;
  options.progress = [&bar](const ImportProgress& progress) {
    if (!bar) bar.emplace("import", progress.bytes_total, "bytes");
    bar->update(progress.bytes_done, fmt::format("{} documents", progress.documents));
  };
  const ImportReport report = import_files(options);
  if (bar) bar->finish(fmt::format("{} documents", report.documents));
  bar.reset();
  for (const std::string& warning : report.warnings) Log().warn("{}", warning);
  std::string text = fmt::format("{}: {} {}, {} tokens\n", one_line(options.out), report.documents,
                                 report.documents == 1 ? "document" : "documents", report.tokens);
  if (report.empty_documents > 0)
    text += fmt::format("{} of the documents are empty; packing skips them\n", report.empty_documents);
  print_answer(text);
  return ExitCode::ok;
}

}  // namespace

Command import_command() {
  return make_command<ImportOptions, declare, execute>("import",
                                                       "make a dataset from FASTA, FASTQ, text, JSONL or token ids");
}

}  // namespace causeway
