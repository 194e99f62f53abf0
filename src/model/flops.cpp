#include "src/model/flops.hpp"

#include <algorithm>

namespace causeway {

ProductElements product_elements(const Model& model) {
  const bool tied = model.options().shape.tied_head;
  ProductElements elements;
  for (const Parameter& parameter : model.parameters().parameters()) {
    // An embedding that is only looked up is not a matrix product. A tied embedding is one, because it is also the
    // head.
    const bool embedding = parameter.spec.name == "backbone.embedding.weight";
    if (!parameter.spec.decay || parameter.spec.shape.rank() != 2 || (embedding && !tied)) continue;
    const bool head = embedding || parameter.group == model.pass_shape().head();
    (head ? elements.head : elements.blocks) += static_cast<double>(parameter.spec.shape.size());
  }
  return elements;
}

double training_flops(const Model& model, const Segments& documents) {
  const ModelOptions& shape = model.options().shape;
  const double matrices = product_elements(model).all();
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
