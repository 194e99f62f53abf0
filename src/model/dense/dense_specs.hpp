#pragma once

#include <cmath>
#include <string>

#include "src/model/parameters/initial_values.hpp"
#include "src/model/parameters/parameter_layout.hpp"

namespace causeway {

/// A dense layer's weight [outputs, inputs], initially N(0, deviation²), with weight decay.
inline ParameterSpec dense_spec(const std::string& name, std::int64_t outputs, std::int64_t inputs, double deviation) {
  return {.name = name,
          .shape = {outputs, inputs},
          .decay = true,
          .product = true,
          .fp8 = Fp8Level::all,
          .initial = initial::normal(deviation)};
}
/// The same for a mixer's input projection.
inline ParameterSpec projection_spec(const std::string& name, std::int64_t outputs, std::int64_t inputs,
                                     double deviation) {
  ParameterSpec spec = dense_spec(name, outputs, inputs, deviation);
  spec.fp8 = Fp8Level::projections;
  return spec;
}
/// Its bias [outputs], initially 0, without weight decay.
inline ParameterSpec bias_spec(const std::string& name, std::int64_t outputs) {
  return {.name = name, .shape = {outputs}, .wide = true, .initial = initial::constant(0)};
}
/// StripedHyena 2's standard deviations: √(2/(5D)) for a block's input projections, 2/(layers·√D) for its output
/// projection.
inline double deviation_in(std::int64_t width) { return std::sqrt(2 / (5 * static_cast<double>(width))); }
inline double deviation_out(std::int64_t width, std::size_t layers) {
  return 2 / (static_cast<double>(layers) * std::sqrt(static_cast<double>(width)));
}

}  // namespace causeway
