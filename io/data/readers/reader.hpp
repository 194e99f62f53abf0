#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "io/file/line_reader.hpp"

namespace causeway {

/// Receives the documents of a reader, in parts.
class DocumentSink {
 public:
  std::function<void(const std::string& name)> on_document;
  std::function<void(std::span<const std::int32_t> tokens)> append;
  std::int64_t vocabulary_size = 0;
  bool uppercase = false;  ///< a–z become A–Z in append_bytes()

  /// How many names are stored in another form: see stored_name() in io/data/dataset.hpp.
  struct ChangedNames {
    std::int64_t latin1 = 0, nul = 0;
    std::string first;
    std::int64_t count() const { return latin1 + nul; }
  };
  ChangedNames changed_names;  ///< since it was last set

  /// Begins a document. `latin1`: the name was converted already.
  void begin(const std::string& name, bool latin1 = false);
  /// Byte b is token b.
  void append_bytes(std::string_view bytes);

 private:
  std::array<std::int32_t, 4096> tokens_;
};

/// Reads a whole file of one format, in memory bounded by `longest_name` and `longest_json_line`. Throws Error(usage)
/// with file, line, what was found and what was expected. Each format has a file in this folder.
using Reader = void (*)(LineReader& lines, DocumentSink& out);

/// >name description, then lines of letters, '*', '-' and '.'. A record is a document, named by its first word; a
/// record without a sequence is an empty document. Blank lines and blanks in sequences are skipped; letters keep their
/// case.
void read_fasta(LineReader& lines, DocumentSink& out);

/// Four lines a record: @name description, sequence, +, as many qualities. Blank lines between records are skipped; the
/// qualities are checked and dropped.
void read_fastq(LineReader& lines, DocumentSink& out);

/// The file is one document, byte for byte, with the name of the file.
void read_text(LineReader& lines, DocumentSink& out);

/// A line is a document, named file:line, without its line end; blank lines are skipped.
void read_lines(LineReader& lines, DocumentSink& out);

/// A line is a JSON object with a string `text`, the document, and optionally a string or integer `id` or `name`; other
/// members are ignored, blank lines skipped.
void read_jsonl(LineReader& lines, DocumentSink& out);

/// A line is a document of decimal token ids between blanks, each less than the vocabulary; blank lines are skipped.
void read_tokens(LineReader& lines, DocumentSink& out);

constexpr std::size_t longest_name = 4096;
constexpr std::size_t longest_json_line = 64 << 20;

/// The first word of a line that comes in parts.
class FirstWord {
 public:
  void clear() {
    word_.clear();
    done_ = false;
  }
  void add(std::string_view text, const LineReader& lines);
  const std::string& get() const { return word_; }

 private:
  std::string word_;
  bool done_ = false;
};

/// Appends a part of a sequence without its blanks. Returns its number of letters. Throws for other characters.
std::int64_t append_sequence(std::string_view text, const LineReader& lines, DocumentSink& out);

}  // namespace causeway
