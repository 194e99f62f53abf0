#include "io/data/import_formats.hpp"

#include <array>
#include <filesystem>

#include "io/file/compression/compression.hpp"
#include "io/file/look_up.hpp"

namespace causeway {
namespace {

constexpr std::array format_table = {
    FormatRow{{"fasta", ".fa .fasta .fna .ffn .faa .frn .fas", "each record is a document"}, read_fasta},
    FormatRow{{"fastq", ".fq .fastq", "each read is a document; qualities are checked and dropped"}, read_fastq},
    FormatRow{{"text", ".txt .text .md", "each file is a document, byte for byte, line ends too"}, read_text},
    FormatRow{{"lines", ".lines", "each line is a document; blank lines are skipped"}, read_lines},
    FormatRow{{"jsonl", ".jsonl .ndjson",
               "each line is a JSON object: \"text\" is the document, \"id\" or \"name\" its name"},
              read_jsonl},
    FormatRow{{"tokens", ".tokens .ids", "each line is a document: token ids separated by blanks"},
              read_tokens,
              nullptr,
              true},
    FormatRow{{"json", ".json", "a JSON list of strings or of objects as in jsonl, or one such object"}, read_json},
    FormatRow{{"megatron", ".idx .bin", "token ids of Megatron-LM: NAME.idx with NAME.bin, given as either or as NAME"},
              nullptr,
              &megatron_format,
              true},
    FormatRow{{"npy", ".npy", "token ids of numpy; NAME.cu_seqlens.npy beside NAME.npy gives the documents"},
              nullptr,
              &npy_format,
              true},
};

constexpr auto descriptions = [] {
  std::array<ImportFormat, format_table.size()> rows;
  for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = format_table[row].description;
  return rows;
}();

bool lists(std::string_view words, std::string_view word) {
  return !word.empty() && fmt::format(" {} ", words).find(fmt::format(" {} ", word)) != std::string::npos;
}

/// The ending of the name that tells the format.
std::string ending_of(const std::string& file) {
  const std::filesystem::path name = without_compression_ending(std::filesystem::path(file).filename().string());
  return name.extension().string();
}

}  // namespace

std::span<const ImportFormat> import_formats() { return descriptions; }

const FormatRow& format_of(const std::string& file, const std::string& asked) {
  const std::string ending = asked == "auto" ? ending_of(file) : "";
  std::string names;
  for (const FormatRow& row : format_table) {
    if (asked == "auto" ? lists(row.description.endings, ending) : asked == row.description.name) return row;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row.description.name);
  }
  require(asked == "auto", "format is '{}', expected auto or one of {}", asked, names);
  // A name without a file may be that of Megatron's two.
  if (!is_there(file) && is_there(file + ".idx")) return format_of(file, "megatron");
  fail(ExitCode::usage, "{}: the format is not clear from its name, expected --format with one of {}", file, names);
}

}  // namespace causeway
