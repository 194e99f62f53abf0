#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "src/model/model_options.hpp"
#include "src/model/operator.hpp"
#include "src/model/parameter_set.hpp"

namespace causeway {

/// A kind of block: one file under src/layers/, one row in src/model/layers.cpp.
struct Layer {
  std::string_view name;  ///< as --layers spells it
  std::string_view summary;
  /// Adds the mixer's parameters, called `prefix` + name, to the set.
  std::unique_ptr<Operator> (*make)(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
};
std::span<const Layer> layers();
/// Throws Error(usage) naming the known kinds.
const Layer& find_layer(std::string_view name);

/// Rows of the table.
std::unique_ptr<Operator> make_se(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Operator> make_mr(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Operator> make_li(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);
std::unique_ptr<Operator> make_attention(const ModelOptions& options, const std::string& prefix,
                                         ParameterSet& parameters);
std::unique_ptr<Operator> make_mamba(const ModelOptions& options, const std::string& prefix, ParameterSet& parameters);

}  // namespace causeway
