/// scores.h5 as a table of documents or of tokens.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/segments.hpp"
#include "src/export/score_columns.hpp"
#include "src/export/writers.hpp"

namespace causeway {
namespace {

constexpr std::int64_t rows_at_once = 1 << 14, names_at_once = 4096;

/// The parts of scores.h5 that every table needs.
class ScoreSource {
 public:
  explicit ScoreSource(const std::string& path) : file_(hdf5::File::open(path, hdf5::Access::read)) {
    const hdf5::Dataset starts = file_.dataset("cu_seqlens");
    starts_ = starts.read_all<std::int64_t>(starts.rows());
    require_documents_in_order(starts_, starts.where());
    names_ = file_.dataset("names");
    if (names_.rows() != documents())
      fail(ExitCode::corrupt, "{}: has {} names, expected {}, as cu_seqlens has documents", names_.where(),
           names_.rows(), documents());
  }

  std::int64_t documents() const { return std::ssize(starts_) - 1; }
  std::int64_t begin(std::int64_t document) const { return starts_[static_cast<std::size_t>(document)]; }
  std::int64_t tokens() const { return starts_.back(); }
  /// To be called with documents in order.
  const std::string& name(std::int64_t document) {
    if (document >= first_name_ + std::ssize(some_names_)) {
      first_name_ = document;
      some_names_ = names_.read_strings(document, std::min(names_at_once, documents() - document));
    }
    return some_names_[static_cast<std::size_t>(document - first_name_)];
  }

  /// Columns of the datasets of numbers in `group` with `rows` rows: log_likelihood first, which must be there, then
  /// the others, except those in `without`.
  std::vector<NumberColumns> columns(const std::string& group, std::int64_t rows, const std::string& without) const {
    hdf5::Dataset scores = file_.dataset(group + "/log_likelihood");
    if (!NumberColumns::fits(scores, rows) || scores.shape().size() != 1 ||
        scores.type().kind != hdf5::ElementType::Kind::floating)
      fail(ExitCode::corrupt, "{}: has {} rows of {}, expected {} numbers", scores.where(), scores.rows(),
           scores.type().to_string(), rows);
    std::vector<NumberColumns> columns;
    columns.emplace_back(std::move(scores), "log_likelihood");
    for (const std::string& name : file_.list(group)) {
      const std::string path = fmt::format("{}/{}", group, name);
      if (name == "log_likelihood" || name == without || name.ends_with(ids) || !file_.is_dataset(path)) continue;
      hdf5::Dataset dataset = file_.dataset(path);
      if (NumberColumns::fits(dataset, rows)) columns.emplace_back(std::move(dataset), name, labels_of(path));
    }
    return columns;
  }

 private:
  static constexpr std::string_view ids = "_ids";

  /// What the columns of a dataset are called: by the tokens that the dataset NAME_ids beside it lists.
  std::vector<std::string> labels_of(const std::string& path) const {
    const std::string list = path + std::string(ids);
    std::vector<std::string> labels;
    if (!file_.exists(list) || !file_.is_dataset(list)) return labels;
    for (const std::int64_t id : file_.dataset(list).read_all<std::int64_t>(NumberColumns::most_columns))
      labels.push_back(id > 0x20 && id < 0x7f ? std::string(1, static_cast<char>(id)) : fmt::to_string(id));
    return labels;
  }

  hdf5::File file_;
  std::vector<std::int64_t> starts_;
  hdf5::Dataset names_;
  std::vector<std::string> some_names_;
  std::int64_t first_name_ = 0;
};

void add_names(const std::vector<NumberColumns>& columns, std::size_t first, std::vector<std::string>& names) {
  for (std::size_t c = first; c < columns.size(); ++c)
    names.insert(names.end(), columns[c].names().begin(), columns[c].names().end());
}

void export_documents(ScoreSource& source, const ExportRequest& request, TableFile& table) {
  std::vector<NumberColumns> columns = source.columns("document", source.documents(), "tokens");
  std::vector<std::string> names = {"name", "tokens", "log_likelihood", "per_token", "perplexity"};
  add_names(columns, 1, names);
  table.columns(names);
  for (std::int64_t d = 0; d < source.documents(); ++d) {
    const std::int64_t row = d % rows_at_once;
    if (row == 0) {
      for (NumberColumns& column : columns) column.load(d, std::min(rows_at_once, source.documents() - d));
      if (request.progress && d > 0) request.progress(d, source.documents());
    }
    const std::int64_t tokens = source.begin(d + 1) - source.begin(d);
    const std::string& name = source.name(d);
    std::optional<double> per_token;
    if (tokens > 1) per_token = columns.front().value(row) / static_cast<double>(tokens - 1);
    std::vector<TableCell> cells = {name, tokens};
    columns.front().add_cells(row, cells);
    cells.push_back(optional_cell(per_token));
    cells.push_back(per_token ? TableCell(std::exp(-*per_token)) : TableCell());
    for (std::size_t c = 1; c < columns.size(); ++c) columns[c].add_cells(row, cells);
    table.row(cells);
  }
  if (request.progress) request.progress(source.documents(), source.documents());
}

void export_tokens(ScoreSource& source, const ExportRequest& request, TableFile& table) {
  std::vector<NumberColumns> columns = source.columns("token", source.tokens(), "");
  std::vector<std::string> names = {"document", "name", "position"};
  add_names(columns, 0, names);
  table.columns(names);
  std::int64_t document = -1;
  std::string name;
  for (std::int64_t token = 0; token < source.tokens(); ++token) {
    const std::int64_t row = token % rows_at_once;
    if (row == 0) {
      for (NumberColumns& column : columns) column.load(token, std::min(rows_at_once, source.tokens() - token));
      if (request.progress && token > 0) request.progress(token, source.tokens());
    }
    if (document < 0 || source.begin(document + 1) <= token) {
      while (source.begin(document + 1) <= token) ++document;
      name = source.name(document);
    }
    std::vector<TableCell> cells = {document, name, token - source.begin(document)};
    for (const NumberColumns& column : columns) column.add_cells(row, cells);
    // What has no score, as a document's first token, is NaN in the file.
    for (TableCell& cell : cells)
      if (const auto* value = std::get_if<float>(&cell); value != nullptr && std::isnan(*value)) cell = {};
    table.row(cells);
  }
  if (request.progress) request.progress(source.tokens(), source.tokens());
}

}  // namespace

void export_scores(const ExportRequest& request, TableFile& table) {
  ScoreSource source(request.source);
  if (request.tokens)
    export_tokens(source, request, table);
  else
    export_documents(source, request, table);
}

}  // namespace causeway
