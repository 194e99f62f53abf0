#include <algorithm>
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
    text += fmt::format("\n  {:<9}{} ({})", format.name, format.summary, format.endings);
  return text;
}

/// The options as the command line has them.
struct ImportSettings {
  ImportOptions options;
  std::string reverse_complement = "no", name_key, max_line = "64MiB";
};

/// "256MiB" → 268435456.
std::int64_t bytes_of(const std::string& text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit = text.substr(digits);
  constexpr std::string_view units[] = {"", "KiB", "MiB", "GiB"};
  const auto found = std::ranges::find(units, unit);
  require(digits > 0 && digits <= 9 && found != std::end(units),
          "--max-line is '{}', expected a number of bytes, or one with KiB, MiB or GiB, like 256MiB", text);
  return std::stoll(text.substr(0, digits)) << (10 * (found - std::begin(units)));
}

/// (2, "token") → "2 tokens".
std::string counted(std::int64_t count, const std::string& what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

OptionGroup input_group(ImportSettings& settings, const std::vector<std::string>& formats) {
  ImportOptions& options = settings.options;
  return {"Input",
          {{"files", &options.files, "FILE", "files to read; - is standard input", {}, true},
           {"format", &options.format, "", "format of the files; auto: by the ending of each file name", formats},
           {"text-key", &options.reader.text_key, "KEY",
            "member of a JSON object that is the document; a.b is member b of member a"},
           {.name = "name-key",
            .field = &settings.name_key,
            .value = "KEY",
            .help = "member of a JSON object that is the document's name",
            .shown_default = "id, or name"},
           {"max-line", &settings.max_line, "BYTES",
            "longest line of JSON, or longest string of a .json file; it is kept in memory"},
           {"skip-bad", &options.skip_bad, "",
            "pass over records and lines that are wrong, and count them; without it the first one is an error. Damaged "
            "compression and a damaged index always are"},
           {"vocabulary", &options.vocabulary_size, "N",
            "number of token ids; above 65536 a token takes 4 bytes instead of 2"}}};
}

OptionGroup document_group(ImportSettings& settings) {
  TransformOptions& options = settings.options.transform;
  return {
      "Documents (in every format; an id below 256 is taken as a byte)",
      {{"uppercase", &options.uppercase, "", "convert a–z to A–Z, for genomes in which lower case only marks repeats"},
       {"append-eod", &options.append_eod, "ID",
        "end each document with this token, empty ones too; Evo 2 was trained with 0"},
       {"reverse-complement",
        &settings.reverse_complement,
        "",
        "add: after each document NAME its reverse complement NAME/rc; replace: only that. All IUPAC letters, case "
        "kept; other bytes stay as they are",
        {"no", "add", "replace"}}}};
}

OptionGroup weight_group(ImportSettings& settings) {
  TransformOptions& options = settings.options.transform;
  return {"Loss weights (stored as /loss_weight; a weight of 0 excludes a token from the loss)",
          {{"lower-case-weight", &options.lower_case_weight, "W",
            "weight of a–z, also with --uppercase; Evo 2 was trained with 0.1 for repeats"},
           {"mask-ambiguous", &options.mask_ambiguous, "",
            "weight 0 for all tokens but A, C, G, T, a, c, g, t and the end of a document (--append-eod, else 0)"},
           {"mask-between", &options.mask_between, "CHARACTER",
            "weight 0 from one of these characters to the next, both included: | for Evo 2's phylogenetic tags. "
            "Sequences of FASTA and FASTQ cannot contain |: give documents with such tags as lines, text or JSON"}}};
}

CommandLine declare(ImportSettings& settings) {
  ImportOptions& options = settings.options;
  std::vector<std::string> formats = {"auto"};
  for (const ImportFormat& format : import_formats()) formats.emplace_back(format.name);
  return {
      .usage = "FILES… --out FILE [options]",
      .description =
          "Makes a dataset (HDF5) from sequences, texts or token ids. Token ids are byte values, except in the formats "
          "'tokens', 'megatron' and 'npy', which contain ids. Text files can be compressed with gzip, zstd, xz or "
          "bzip2, whatever their names are; lines end with LF, CR LF or CR. Files are read in the given order; memory "
          "use does not grow with their size. The dataset appears under its name when it is complete, or not at "
          "all.\n\nFormats:" +
          format_list(),
      .groups = {input_group(settings, formats),
                 document_group(settings),
                 weight_group(settings),
                 {"Output",
                  {{"out", &options.out, "FILE", "the dataset to write; causeway split divides it for validation"},
                   {"force", &options.force, "", "replace the dataset if it exists"}}}},
      .examples =
          "causeway import reads_1.fq.gz reads_2.fq.gz --out reads.h5\n"
          "causeway import genome.fna.zst --out train.h5 --reverse-complement add --append-eod 0\n"
          "causeway import genome.fna --out train.h5 --uppercase --lower-case-weight 0.1 --mask-ambiguous\n"
          "causeway import corpus.jsonl --out corpus.h5 --text-key content --name-key meta.url\n"
          "causeway import corpus.idx --out corpus.h5 --vocabulary 50257"};
}

ImportOptions options_of(const ImportSettings& settings) {
  using Strands = TransformOptions::Strands;
  ImportOptions options = settings.options;
  options.transform.strands = settings.reverse_complement == "add"       ? Strands::both
                              : settings.reverse_complement == "replace" ? Strands::complement
                                                                         : Strands::given;
  if (!settings.name_key.empty()) options.reader.name_keys = {settings.name_key};
  options.reader.longest_json = bytes_of(settings.max_line);
  return options;
}

void warn_of(const ImportReport& report) {
  for (const std::string& warning : report.warnings) Log().warn("{}", warning);
  const PassedOver& bad = report.passed_over;
  for (const std::string& reason : bad.reasons) Log().warn("passed over: {}", reason);
  if (bad.records > std::ssize(bad.reasons)) Log().warn("passed over: {} more", bad.records - std::ssize(bad.reasons));
}

ExitCode execute(const ImportSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;  // one process imports, however many a launcher started
  std::optional<Progress> bar;
  ImportOptions options = options_of(settings);
  options.progress = [&bar](const ImportProgress& progress) {
    if (!bar) bar.emplace("import", progress.bytes_total, "bytes");
    bar->update(progress.bytes_done, counted(progress.documents, "document"));
  };
  const ImportReport report = import_files(options);
  if (bar) bar->finish(counted(report.documents, "document"));
  bar.reset();
  warn_of(report);
  std::string text = fmt::format("{}: {}, {}\n", one_line(options.out), counted(report.documents, "document"),
                                 counted(report.tokens, "token"));
  if (report.empty_documents > 0)
    text += fmt::format("{} of the documents {} empty; packing skips {}\n", report.empty_documents,
                        report.empty_documents == 1 ? "is" : "are", report.empty_documents == 1 ? "it" : "them");
  if (report.passed_over.records > 0)
    text += fmt::format("{} wrong {} passed over\n", report.passed_over.records,
                        report.passed_over.records == 1 ? "record was" : "records were");
  print_answer(text);
  return ExitCode::ok;
}

}  // namespace

Command import_command() {
  return make_command<ImportSettings, declare, execute>("import",
                                                        "make a dataset from FASTA, FASTQ, text, JSON or token ids");
}

}  // namespace causeway
