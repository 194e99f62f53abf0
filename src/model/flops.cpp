#include "src/model/flops.hpp"

#include <algorithm>

namespace causeway {

double training_flops(const Model& model, const Segments& documents) {
  const ModelOptions& shape = model.options().shape;
  double matrices = 0;
  for (const Parameter& parameter : model.parameters().parameters()) {
    // An embedding that is only looked up is not a matrix product. A tied embedding is one, because it is also the
    // head.
    const bool table = !shape.tied_head && parameter.spec.name == "backbone.embedding.weight";
    if (parameter.spec.decay && parameter.spec.shape.rank() == 2 && !table)
      matrices += static_cast<double>(parameter.spec.shape.size());
  }
  double squares = 0;
  for (std::size_t s = 0; s + 1 < documents.cu_seqlens().size(); ++s) {
    const auto length = static_cast<double>(documents.cu_seqlens()[s + 1] - documents.cu_seqlens()[s]);
    squares += length * length;
  }
  const auto attention = static_cast<double>(std::ranges::count(shape.layers, "attention"));
  return 6 *
         (matrices * static_cast<double>(documents.tokens()) + attention * static_cast<double>(shape.width) * squares);
}

}  // namespace causeway
