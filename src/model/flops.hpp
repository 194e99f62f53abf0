#pragma once

#include "kernels/core/segments.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// Elements of the weight matrices that every token is multiplied with: those of the blocks, and those of the head.
struct ProductElements {
  double blocks = 0, head = 0;
  double all() const { return blocks + head; }
};
ProductElements product_elements(const Model& model);

/// The floating-point operations of the matrix products and of causal attention in one forward and one backward pass
/// over these documents; a multiply-add is two. They are
///   6·P a token, P the number of elements of all weight matrices that tokens are multiplied with;
///   6·width·L² an attention layer and document of L tokens: forward two products of half an L × L matrix, backward
///   twice as many.
/// Convolutions, scans and norms (a few percent) are left out, and so are the operations that recomputation repeats.
double training_flops(const Model& model, const Segments& documents);

}  // namespace causeway
