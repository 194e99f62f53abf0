#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/convert/yaml_keys.hpp"
#include "src/model/model_options.hpp"

namespace causeway {

/// A StripedHyena 2 model as vortex's YAML file describes it.
struct VortexShape {
  ModelOptions options;
  std::int64_t se_groups = 0, mr_groups = 0;        ///< options.filter_groups is a multiple of both
  bool hyena_bias = false, attention_bias = false;  ///< options.out_bias if one of them
  bool fp8 = false;                                 ///< trained with FP8 input projections
};

/// Throws Error(usage), with file and key, for a key that is missing, for a value that Causeway cannot honour and for a
/// key that it does not know.
VortexShape vortex_shape(const YamlKeys& keys);

/// Throws Error(usage), saying what it is, for a model that vortex cannot express.
VortexShape expressible_as_vortex(const ModelOptions& options);

/// The YAML file of such a model, which vortex_shape() reads.
std::string vortex_yaml(const VortexShape& shape);

/// Filters of at least this many taps are stored in the order of lags, with a skip; shorter ones in that of conv1d,
/// whose last tap is lag 0, without one.
inline constexpr std::int64_t vortex_long_filter = 128;

}  // namespace causeway
