#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"

namespace causeway {

enum class TableFormat : std::uint8_t { tsv, csv };

/// The format that a file's name ends with, .tsv or .csv. Throws Error(usage) for any other name, with `option`, which
/// gave it; "-" is tsv.
TableFormat table_format_of(const std::string& path, std::string_view option);

/// A cell of a table. std::monostate is an empty cell: no value.
using TableCell = std::variant<std::monostate, std::int64_t, float, double, std::string_view>;

/// An empty cell where there is no value.
template <class T>
TableCell optional_cell(const std::optional<T>& value) {
  return value ? TableCell(*value) : TableCell();
}

/// The text of a cell.
/// - A number has the fewest digits from which the same bits are read back, as a float or as a double; nan, inf, -inf.
/// - TSV: tab, line feed, carriage return and backslash of a text become \t, \n, \r and \\, so that a row is a line
///   and splitting it at tabs gives its cells.
/// - CSV (RFC 4180): a text with a comma, a quote, a line feed or a carriage return, and an empty text, are put in
///   quotes, and a quote in it is doubled. An empty cell is nothing at all.
std::string table_text(const TableCell& cell, TableFormat format);

/// A table in a text file: a line of column names, and a line for each row, which ends with a line feed. It is written
/// a block at a time, and appears under its name when it is complete (AtomicFile).
class TableFile {
 public:
  using Output = std::function<void(std::string_view)>;

  /// Throws Error(usage) for an existing file that is refused, Error(io) where it cannot be written.
  TableFile(const std::string& path, TableFormat format, Existing existing);
  /// Gives the text to `output` instead, for standard output.
  TableFile(Output output, TableFormat format) : format_(format), output_(std::move(output)) {}

  /// The first line.
  void columns(std::span<const std::string> names);
  /// As many cells as there are columns.
  void row(std::span<const TableCell> cells);
  void row(std::initializer_list<TableCell> cells) { row(std::span(cells.begin(), cells.size())); }
  /// Writes what is buffered, and renames the file to its final name.
  void finish();

 private:
  void end_line();
  void flush();

  TableFormat format_;
  Output output_;
  std::optional<AtomicFile> target_;
  Descriptor file_;
  std::string buffer_;
  std::size_t columns_ = 0;
};

}  // namespace causeway
