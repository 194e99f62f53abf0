#pragma once

#include "kernels/core/segments.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// Floating-point operations that a forward and a backward pass over these documents cannot do without, two a
/// multiply-add: 6 for every token and number of a matrix it is multiplied with, and in causal attention 6·width·L² for
/// a document of L tokens (two products of half an L × L matrix each way, twice as many back). Convolutions, scans and
/// norms, a few percent, are left out, and so is what recomputation does twice.
double training_flops(const Model& model, const Segments& documents);

}  // namespace causeway
