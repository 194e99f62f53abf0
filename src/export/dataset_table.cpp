/// A dataset's documents as a table.

#include <algorithm>
#include <array>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/data/name_reader.hpp"
#include "src/export/writers.hpp"

namespace causeway {
namespace {

/// The sum of the weights of tokens [begin, end) as labels.
double weight_of(const Dataset& data, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t at_once = 1 << 16;
  if (!data.has_loss_mask() && !data.has_loss_weights()) return static_cast<double>(end - begin);
  std::vector<float> weights;
  double sum = 0;
  for (; begin < end; begin += at_once) {
    weights.resize(static_cast<std::size_t>(std::min(at_once, end - begin)));
    data.read_label_weights(begin, weights);
    for (const float weight : weights) sum += weight;
  }
  return sum;
}

}  // namespace

void export_dataset(const ExportRequest& request, TableFile& table) {
  constexpr std::int64_t between_reports = 1 << 12;
  const Dataset data(request.source);
  table.columns(std::array<std::string, 3>{"name", "tokens", "weight"});
  NameReader names(data);
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    const std::int64_t begin = data.cu_seqlens()[static_cast<std::size_t>(d)],
                       end = data.cu_seqlens()[static_cast<std::size_t>(d) + 1];
    const std::string name = names.next();
    table.row({name, end - begin, weight_of(data, begin, end)});
    if (request.progress && (d + 1) % between_reports == 0) request.progress(d + 1, data.documents());
  }
  if (request.progress) request.progress(data.documents(), data.documents());
}

}  // namespace causeway
