#pragma once

#include <cstdint>
#include <string>

#include "src/cli/config.hpp"
#include "src/model/model_options.hpp"

namespace causeway {

/// The model options of `train`. 0 and "", or -1 where 0 has a meaning, mean the value of the preset, or of the
/// checkpoint from which the run resumes or starts.
struct ModelSettings {
  std::string model, layers;
  std::int64_t layers_count = 0, width = 0, state = 0, expand = 0, conv_taps = 0, dt_rank = 0, vocabulary = 0,
               heads = 0, filter_groups = 0, se_taps = 0, mr_taps = 0, modes = 0, ffn = -1;
  double rope_base = -1, rope_scaling = 0, norm_eps = 0;
  std::string mr_decay, mlp_activation, norm_form;
  bool untied_head = false, out_bias = false, rope_stored = false, no_se_skip = false;
};

/// The preset of --model; without --model the default preset if --layers is given, else `otherwise`; changed by the
/// other options. Whether the result is a valid model is checked by ModelOptions::check.
ModelOptions resolve(const ModelSettings& settings, const ModelOptions& otherwise);
/// The options that give this shape: what config.ini contains. A size that the preset leaves to the program, because it
/// derives from the others, is not set.
ModelSettings settings_of(const ModelOptions& shape, const std::string& model);
/// The options of these settings.
OptionGroup model_group(ModelSettings& settings);

}  // namespace causeway
