#include "io/import.hpp"

#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>

#include "io/dataset.hpp"
#include "io/readers/reader.hpp"

namespace causeway {
namespace {

struct FormatRow {
  ImportFormat description;
  Reader read;
};
constexpr std::array format_table = {
    FormatRow{{"fasta", ".fa .fasta .fna .ffn .faa .frn .fas", "a record a document"}, read_fasta},
    FormatRow{{"fastq", ".fq .fastq", "a read a document, its qualities checked and dropped"}, read_fastq},
    FormatRow{{"text", ".txt .text .md", "a file a document"}, read_text},
    FormatRow{{"lines", ".lines", "a line a document, blank ones skipped"}, read_lines},
    FormatRow{{"jsonl", ".jsonl .ndjson", "a line a document: its member \"text\", named by \"id\" or \"name\""}, read_jsonl},
    FormatRow{{"tokens", ".tokens .ids", "a line a document of token ids between blanks"}, read_tokens},
};

constexpr auto descriptions = [] {
  std::array<ImportFormat, format_table.size()> rows;
  for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = format_table[row].description;
  return rows;
}();

bool lists(std::string_view words, std::string_view word) { return !word.empty() && fmt::format(" {} ", words).find(fmt::format(" {} ", word)) != std::string::npos; }

const FormatRow& format_of(const std::string& file, const std::string& asked) {
  std::filesystem::path name = std::filesystem::path(file).filename();
  if (name.extension() == ".gz" || name.extension() == ".GZ") name = name.stem();
  std::string names;
  for (const FormatRow& row : format_table) {
    if (asked == "auto" ? lists(row.description.endings, name.extension().string()) : asked == row.description.name) return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.description.name);
  }
  require(asked == "auto", "format is '{}', expected auto or one of {}", asked, names);
  fail(ExitCode::usage, "{}: its name does not tell its format, expected --format with one of {}", file, names);
}

struct Input {
  std::string path;
  Reader read;
  std::int64_t bytes;
};

std::vector<Input> check_inputs(const ImportOptions& options) {
  require(!options.files.empty(), "no file to import");
  require(!options.out.empty(), "no name for the dataset to write");
  const bool splits = options.hold_out != 0;
  require(options.hold_out >= 0 && options.hold_out < 1, "hold-out is {}, expected at least 0 and less than 1", options.hold_out);
  require(splits == !options.hold_out_to.empty(), "hold-out needs both, the part to hold out and the file to write it to");
  std::error_code ignored;
  require(std::filesystem::weakly_canonical(options.out, ignored) != std::filesystem::weakly_canonical(options.hold_out_to, ignored), "{}: is named for both datasets, expected two files",
          options.out);
  std::vector<Input> inputs;
  for (const std::string& path : options.files) {
    const auto status = std::filesystem::status(path, ignored);
    require(std::filesystem::exists(status), "{}: no such file", path);
    require(!std::filesystem::is_directory(status), "{}: is a folder, expected a file", path);
    require(!splits || std::filesystem::is_regular_file(status), "{}: cannot be read twice, as holding out needs", path);
    for (const std::string& out : {options.out, options.hold_out_to})
      require(!std::filesystem::equivalent(path, out, ignored), "{}: is to be read and written, expected another name for the dataset", path);
    const FormatRow& format = format_of(path, options.format);
    require(format.read == read_tokens || options.vocabulary_size >= 256, "vocabulary is {}, expected at least 256 where bytes are tokens", options.vocabulary_size);
    const auto bytes = std::filesystem::is_regular_file(status) ? std::filesystem::file_size(path, ignored) : 0;
    inputs.push_back({path, format.read, static_cast<std::int64_t>(bytes)});
  }
  return inputs;
}

/// What is known of the tokens so far, and where in the files they come from.
struct Count {
  std::int64_t documents = 0, tokens = 0, empty = 0;
  std::int64_t in_document = 0;

  void begin() {
    end();
    ++documents;
    in_document = 0;
  }
  void add(std::int64_t count) {
    tokens += count;
    in_document += count;
  }
  void end() {
    if (documents > 0 && in_document == 0) ++empty;
  }
};

using Begin = std::function<void(const std::string&)>;
using Append = std::function<void(std::span<const std::int32_t>)>;

/// Reads all files once, counting; returns the count.
Count read_all(const ImportOptions& options, std::span<const Input> inputs, std::int64_t bytes_before, std::int64_t bytes_total, const Begin& begin, const Append& append) {
  Count count;
  DocumentSink sink;
  sink.vocabulary_size = options.vocabulary_size;
  sink.uppercase = options.uppercase;
  sink.begin = [&](const std::string& name) {
    count.begin();
    begin(name);
  };
  sink.append = [&](std::span<const std::int32_t> tokens) {
    append(tokens);
    count.add(static_cast<std::int64_t>(tokens.size()));
  };
  for (const Input& input : inputs) {
    LineReader lines(input.path, [&](std::int64_t done) {
      if (options.progress) options.progress({input.path, bytes_before + done, bytes_total, count.documents, count.tokens});
    });
    input.read(lines, sink);
    bytes_before += input.bytes;
  }
  count.end();
  require(count.tokens > 0, "{}{}: found {} documents and no token, expected some", inputs.front().path, inputs.size() > 1 ? fmt::format(" and {} more", inputs.size() - 1) : "",
          count.documents);
  return count;
}

/// The files' names for the dataset's `source`, the first few of many.
std::string source_of(std::span<const Input> inputs) {
  constexpr std::size_t shown_files = 16;
  std::string source;
  for (const Input& input : inputs.first(std::min(inputs.size(), shown_files))) source += fmt::format("{}{}", source.empty() ? "" : " ", input.path);
  if (inputs.size() > shown_files) source += fmt::format(" and {} more", inputs.size() - shown_files);
  return source;
}

}  // namespace

std::span<const ImportFormat> import_formats() { return descriptions; }

ImportReport import_files(const ImportOptions& options) {
  const std::vector<Input> inputs = check_inputs(options);
  std::int64_t bytes = 0;
  for (const Input& input : inputs) bytes += input.bytes;

  const bool splits = options.hold_out > 0;
  std::int64_t cut = std::numeric_limits<std::int64_t>::max(), counted = 0;
  if (splits) {
    counted = read_all(options, inputs, 0, 2 * bytes, [](const std::string&) {}, [](std::span<const std::int32_t>) {}).tokens;
    cut = counted - std::llround(static_cast<double>(counted) * options.hold_out);
    require(cut > 0 && cut < counted, "hold-out is {} of {} tokens, expected some on both sides", options.hold_out, counted);
  }

  DatasetWriter kept(options.out, options.vocabulary_size, source_of(inputs), false);
  std::optional<DatasetWriter> held_out;
  if (splits) held_out.emplace(options.hold_out_to, options.vocabulary_size, source_of(inputs), false);
  std::string name;
  bool beyond = false;  // the open document's place is behind the cut
  const Begin begin = [&](const std::string& document) {
    name = document;
    beyond = kept.tokens() >= cut;
    (beyond ? *held_out : kept).begin_document(name);
  };
  const Append append = [&](std::span<const std::int32_t> tokens) {
    const auto room = static_cast<std::size_t>(std::min<std::int64_t>(cut - kept.tokens(), static_cast<std::int64_t>(tokens.size())));
    if (room > 0) kept.append(tokens.first(room));
    if (room == tokens.size()) return;
    if (!beyond) held_out->begin_document(name);
    beyond = true;
    held_out->append(tokens.subspan(room));
  };
  const Count count = read_all(options, inputs, splits ? bytes : 0, splits ? 2 * bytes : bytes, begin, append);
  if (splits && count.tokens != counted) fail(ExitCode::io, "{}: changed while it was read: {} tokens, then {}", inputs.front().path, counted, count.tokens);
  if (held_out) held_out->finish();
  kept.finish();
  return {.documents = kept.documents(),
          .tokens = kept.tokens(),
          .held_out_documents = held_out ? held_out->documents() : 0,
          .held_out_tokens = held_out ? held_out->tokens() : 0,
          .empty_documents = count.empty};
}

}  // namespace causeway
