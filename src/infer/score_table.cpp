#include "src/infer/score_table.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "io/data/name_reader.hpp"
#include "io/file/look_up.hpp"

namespace causeway {
namespace {

const std::vector<std::string>& common_columns() {
  static const std::vector<std::string> names{"name", "tokens", "log_likelihood", "per_token", "perplexity"};
  return names;
}

}  // namespace

ScoreTable::ScoreTable(const std::string& path) : file_(path, TableFormat::tsv, Existing::replaced) {}

void ScoreTable::write(const Dataset& data, const DocumentScores& scores) {
  const bool both = !scores.forward.empty();
  std::vector<std::string> columns = common_columns();
  if (both) columns.insert(columns.end(), {"log_likelihood_forward", "log_likelihood_reverse"});
  file_.columns(columns);
  NameReader names(data);
  for (std::size_t d = 0; d < scores.log_likelihood.size(); ++d) {
    const std::string name = stored_name(names.next());
    const std::int64_t tokens = data.cu_seqlens()[d + 1] - data.cu_seqlens()[d];
    std::optional<double> per_token, perplexity;
    if (tokens > 1) {
      per_token = scores.log_likelihood[d] / static_cast<double>(tokens - 1);
      perplexity = std::exp(-*per_token);
    }
    std::vector<TableCell> cells{name, tokens, scores.log_likelihood[d], optional_cell(per_token),
                                 optional_cell(perplexity)};
    if (both) cells.insert(cells.end(), {scores.forward[d], scores.reverse[d]});
    file_.row(cells);
  }
  file_.finish();
}

void require_earlier_table(const std::string& path) {
  std::error_code ignored;
  if (kind_of(path) != std::filesystem::file_type::regular || std::filesystem::file_size(path, ignored) == 0) return;
  std::string expected;
  for (const std::string& name : common_columns()) expected += (expected.empty() ? "" : "\t") + name;
  std::string found(expected.size(), '\0');
  std::ifstream(path, std::ios::binary).read(found.data(), static_cast<std::streamsize>(found.size()));
  require(found == expected,
          "{}: exists and is not an earlier table of causeway score, expected another name for --tsv", path);
}

}  // namespace causeway
