#include "io/data/import.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include "io/data/dataset.hpp"
#include "io/data/readers/reader.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/compression/compression.hpp"
#include "io/file/look_up.hpp"

namespace causeway {
namespace {

struct FormatRow {
  ImportFormat description;
  Reader read;
};
constexpr std::array format_table = {
    FormatRow{{"fasta", ".fa .fasta .fna .ffn .faa .frn .fas", "each record is a document"}, read_fasta},
    FormatRow{{"fastq", ".fq .fastq", "each read is a document; qualities are checked and dropped"}, read_fastq},
    FormatRow{{"text", ".txt .text .md", "each file is a document, byte for byte, line ends too"}, read_text},
    FormatRow{{"lines", ".lines", "each line is a document; blank lines are skipped"}, read_lines},
    FormatRow{{"jsonl", ".jsonl .ndjson",
               "each line is a JSON object: \"text\" is the document, \"id\" or \"name\" its name"},
              read_jsonl},
    FormatRow{{"tokens", ".tokens .ids", "each line is a document: token ids separated by blanks"}, read_tokens},
};

constexpr auto descriptions = [] {
  std::array<ImportFormat, format_table.size()> rows;
  for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = format_table[row].description;
  return rows;
}();

bool lists(std::string_view words, std::string_view word) {
  return !word.empty() && fmt::format(" {} ", words).find(fmt::format(" {} ", word)) != std::string::npos;
}

const FormatRow& format_of(const std::string& file, const std::string& asked) {
  const std::filesystem::path name = without_compression_ending(std::filesystem::path(file).filename().string());
  std::string names;
  for (const FormatRow& row : format_table) {
    if (asked == "auto" ? lists(row.description.endings, name.extension().string()) : asked == row.description.name)
      return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.description.name);
  }
  require(asked == "auto", "format is '{}', expected auto or one of {}", asked, names);
  fail(ExitCode::usage, "{}: the format is not clear from its name, expected --format with one of {}", file, names);
}

Reader reader_of(const std::string& file, const ImportOptions& options) {
  const FormatRow& format = format_of(file, options.format);
  require(format.read == read_tokens || options.vocabulary_size >= 256,
          "vocabulary is {}, expected at least 256 for a format whose tokens are bytes", options.vocabulary_size);
  return format.read;
}

struct Input {
  std::string path;
  Reader read;
  std::int64_t bytes;
};

std::vector<Input> check_inputs(const ImportOptions& options) {
  require(!options.files.empty(), "no input file, expected at least one");
  require(!options.out.empty(), "no output file, expected --out with a name for the dataset");
  std::error_code ignored;
  std::vector<Input> inputs;
  for (const std::string& path : options.files) {
    if (path == standard_input) {
      require(std::ranges::count(options.files, path) == 1, "-: standard input is given twice");
      require(options.format != "auto", "-: standard input has no name that tells its format, expected --format");
      inputs.push_back({path, reader_of(path, options), 0});
      continue;
    }
    const auto kind = require_file(path);
    require(!same_file(path, options.out), "{}: is input and output, expected another name for the dataset", path);
    const Reader read = reader_of(path, options);
    const auto bytes = kind == std::filesystem::file_type::regular ? std::filesystem::file_size(path, ignored) : 0;
    inputs.push_back({path, read, static_cast<std::int64_t>(bytes)});
  }
  check_target(options.out, options.existing());
  return inputs;
}

/// The dataset's attribute `source`: the names of the first files.
std::string source_of(std::span<const Input> inputs) {
  constexpr std::size_t shown_files = 16;
  std::string source;
  for (const Input& input : inputs.first(std::min(inputs.size(), shown_files)))
    source += fmt::format("{}{}", source.empty() ? "" : " ", input.path);
  if (inputs.size() > shown_files) source += fmt::format(" and {} more", inputs.size() - shown_files);
  return source;
}

std::string warning_about(const std::string& path, const DocumentSink::ChangedNames& changed) {
  std::string text = path + ": ";
  if (changed.latin1 > 0) text += fmt::format("names that are not UTF-8, taken as Latin-1: {}", changed.latin1);
  if (changed.nul > 0)
    text += fmt::format("{}names with a NUL, stored as '?': {}", changed.latin1 > 0 ? "; " : "", changed.nul);
  return text + fmt::format("; the first is '{}'", changed.first);
}

}  // namespace

std::span<const ImportFormat> import_formats() { return descriptions; }

ImportReport import_files(const ImportOptions& options) {
  const std::vector<Input> inputs = check_inputs(options);
  std::int64_t bytes_total = 0, bytes_before = 0;
  for (const Input& input : inputs) bytes_total += input.bytes;

  DatasetWriter dataset(options.out, options.vocabulary_size, source_of(inputs), {}, options.existing());
  std::vector<std::string> warnings;
  std::int64_t empty = 0, document_start = 0;
  const auto end_document = [&] {
    if (dataset.documents() > 0 && dataset.tokens() == document_start) ++empty;
  };
  DocumentSink sink;
  sink.vocabulary_size = options.vocabulary_size;
  sink.uppercase = options.uppercase;
  sink.on_document = [&](const std::string& name) {
    end_document();
    dataset.begin_document(name);
    document_start = dataset.tokens();
  };
  sink.append = [&](std::span<const std::int32_t> tokens) { dataset.append(tokens); };
  for (const Input& input : inputs) {
    LineReader lines(input.path, [&](std::int64_t done) {
      if (options.progress)
        options.progress({input.path, bytes_before + done, bytes_total, dataset.documents(), dataset.tokens()});
    });
    sink.changed_names = {};
    input.read(lines, sink);
    if (sink.changed_names.count() > 0) warnings.push_back(warning_about(lines.path(), sink.changed_names));
    bytes_before += input.bytes;
  }
  end_document();
  require(dataset.tokens() > 0, "{}: found {} documents and no token, expected at least one token", source_of(inputs),
          dataset.documents());
  dataset.finish();
  return {.documents = dataset.documents(),
          .tokens = dataset.tokens(),
          .empty_documents = empty,
          .warnings = std::move(warnings)};
}

}  // namespace causeway
