#include "io/results/table_file.hpp"

#include <fmt/format.h>

#include <cmath>
#include <type_traits>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::size_t block_bytes = 64 << 10;

template <class Number>
std::string number_text(Number value) {
  if constexpr (std::is_floating_point_v<Number>)
    if (std::isnan(value)) return "nan";  // without the sign that to_chars would write
  return fmt::format("{}", value);        // the shortest text from which the same bits are read
}

std::string tsv_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) switch (c) {
      case '\t':
        escaped += "\\t";
        break;
      case '\n':
        escaped += "\\n";
        break;
      case '\r':
        escaped += "\\r";
        break;
      case '\\':
        escaped += "\\\\";
        break;
      default:
        escaped += c;
    }
  return escaped;
}

std::string csv_text(std::string_view text) {
  if (!text.empty() && text.find_first_of(",\"\n\r") == text.npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

}  // namespace

TableFormat table_format_of(const std::string& path, std::string_view option) {
  const std::string_view name = path;
  if (name == "-" || name.ends_with(".tsv")) return TableFormat::tsv;
  require(name.ends_with(".csv"), "--{} is '{}', expected a file name that ends with .tsv or .csv, or - (TSV)", option,
          path);
  return TableFormat::csv;
}

std::string table_text(const TableCell& cell, TableFormat format) {
  return std::visit(
      [&]<class T>(const T& value) -> std::string {
        if constexpr (std::is_same_v<T, std::monostate>)
          return "";
        else if constexpr (std::is_same_v<T, std::string_view>)
          return format == TableFormat::tsv ? tsv_text(value) : csv_text(value);
        else
          return number_text(value);
      },
      cell);
}

TableFile::TableFile(const std::string& path, TableFormat format, Existing existing) : format_(format) {
  target_.emplace(path, existing);
  file_ = target_->open();
  output_ = [this](std::string_view text) {
    if (!write_all(file_.get(), text)) posix_check(-1, target_->path(), "write");
  };
}

void TableFile::columns(std::span<const std::string> names) {
  ensure(columns_ == 0 && !names.empty(), "a table's column names come first, and once");
  columns_ = names.size();
  const std::vector<TableCell> cells(names.begin(), names.end());
  row(cells);
}

void TableFile::row(std::span<const TableCell> cells) {
  ensure(cells.size() == columns_, "a row of {} cells in a table of {} columns", cells.size(), columns_);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) buffer_ += format_ == TableFormat::tsv ? '\t' : ',';
    buffer_ += table_text(cells[i], format_);
  }
  end_line();
}

void TableFile::finish() {
  flush();
  if (!target_) return;
  file_ = Descriptor();
  target_->commit();
}

void TableFile::end_line() {
  buffer_ += '\n';
  if (buffer_.size() >= block_bytes) flush();
}

void TableFile::flush() {
  if (!buffer_.empty()) output_(buffer_);
  buffer_.clear();
}

}  // namespace causeway
