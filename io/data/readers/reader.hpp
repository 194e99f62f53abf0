#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/data/readers/document_sink.hpp"
#include "io/file/line_reader.hpp"

namespace causeway {

/// What the user can set of readers.
struct ReaderOptions {
  std::string text_key = "text";                        ///< member of an object; "a.b" is member b of member a
  std::vector<std::string> name_keys = {"id", "name"};  ///< the first that an object has names its document
  std::int64_t longest_json = std::int64_t{64} << 20;   ///< bytes of a line of JSON, or of a string in a .json file
};

/// Reads a whole file of one text format, in memory bounded by `longest_name` and `longest_json`. Throws Error(usage)
/// with file, line, what was found and what was expected; RecordError for what is wrong in one record, if
/// out.skip_bad does not say to pass it over. Each format has a file in this folder.
using LineFormat = void (*)(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// >name description, then lines of letters, '*', '-' and '.'. A record is a document, named by its first word; a
/// record without a sequence is an empty document. Blank lines, lines that start with ';' and blanks in sequences are
/// skipped; letters keep their case.
void read_fasta(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// @name description, sequence, +, as many qualities. A sequence of one line has its qualities in one line; one of
/// several lines, in any number of lines. Blank lines between records are skipped; the qualities are checked and
/// dropped.
void read_fastq(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// The file is one document, byte for byte, with the name of the file.
void read_text(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// A line is a document, named file:line, without its line end; blank lines are skipped.
void read_lines(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// A line is a JSON object with a string, the document, under text_key, and optionally a string or integer, its name,
/// under one of name_keys; other members are ignored, blank lines skipped.
void read_jsonl(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// The file is one JSON value: a list of such objects and of strings, or one object. Documents without a name are named
/// file:number.
void read_json(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

/// A line is a document of decimal token ids between blanks, each less than the vocabulary; blank lines are skipped.
void read_tokens(LineReader& lines, const ReaderOptions& options, DocumentSink& out);

constexpr std::size_t longest_name = 4096;

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

/// Appends a part of a sequence without its blanks. Returns its number of letters. Throws RecordError for other
/// characters.
std::int64_t append_sequence(std::string_view text, const LineReader& lines, DocumentSink& out);

}  // namespace causeway
