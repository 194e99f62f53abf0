#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "src/convert/config_keys.hpp"
#include "src/convert/format.hpp"

namespace causeway {

/// A Mamba model as both of its published forms have it.
struct MambaShape {
  ModelOptions options;
  bool conv_bias = true;  ///< false: the convolution's bias is zero, and no tensor has it

  /// Throws Error(usage), starting with `where`, for a number of layers that is out of range.
  void set_layers(std::int64_t count, const std::string& where);
};

/// The names of Hugging Face and mamba_ssm, which differ in that of the embedding. Causeway's are mamba_ssm's.
Mapping mamba_mapping(const MambaShape& shape, const std::string& embedding);

inline constexpr const char* mamba_config_file = "config.json";

/// Whether the source is a folder with a config.json that has all of these keys.
bool mamba_config_has(const ConvertSource& source, std::initializer_list<const char*> keys);

/// Opens a folder with a config.json, which `shape_of` reads, and safetensors, or else a pytorch_model.bin.
/// `embeddings`: the names that the embedding can have; the first one is the usual one.
ForeignModel open_mamba(const ConvertSource& source, MambaShape (*shape_of)(const ConfigKeys& config),
                        std::initializer_list<const char*> embeddings);

/// Throws Error(usage), saying what it is, for a model that these forms cannot express.
MambaShape expressible_as_mamba(const ModelOptions& options, const Remembered& remembered);

}  // namespace causeway
