#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "src/model/model_options.hpp"
#include "src/model/parameters/parameter_set.hpp"
#include "src/model/sublayer.hpp"

namespace causeway {

/// A kind of mixer: one file in src/model/layers/, one row in src/model/layers.cpp.
struct Layer {
  std::string_view name;  ///< in --layers and in checkpoints
  std::string_view summary;
  /// Adds the mixer's parameters to the set, each named `prefix` + its own name.
  std::unique_ptr<Sublayer> (*make)(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
};
std::span<const Layer> layers();
/// Throws Error(usage) with the known names if there is no such layer.
const Layer& find_layer(std::string_view name);

/// The functions in the table's rows.
std::unique_ptr<Sublayer> make_se(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Sublayer> make_mr(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Sublayer> make_li(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Sublayer> make_attention(const ModelOptions& options, const std::string& prefix,
                                         ParameterSet& parameters);
std::unique_ptr<Sublayer> make_mamba(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);

}  // namespace causeway
