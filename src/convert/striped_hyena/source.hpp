#pragma once

#include <initializer_list>
#include <string_view>

#include "io/tensors/tensor_files.hpp"
#include "src/convert/format.hpp"
#include "src/convert/striped_hyena/vortex_config.hpp"

/// The files of StripedHyena 2 models, in vortex's and in savanna's form.
namespace causeway {

inline constexpr const char* vortex_config_file = "config.yml";

/// Opens weights and their YAML file. The weights: a file of torch.save or its parts, a .safetensors file, a folder
/// with one .pt file, or a folder of safetensors, as written by `causeway convert --to vortex`. The YAML file: that of
/// --model-config, or config.yml of the source's folder, where `--to vortex` writes it. Throws Error(usage) if there is
/// none.
ForeignModel open_striped_hyena(const ConvertSource& source,
                                Mapping (*mapping_of)(const VortexShape& shape, const TensorFiles& files));

/// Whether the source has weights in one of these forms, with a tensor of one of these names.
bool striped_hyena_source_has(const ConvertSource& source, std::initializer_list<std::string_view> tensors);

}  // namespace causeway
