#pragma once

#include <cstdint>
#include <string>

#include "src/convert/format.hpp"

namespace causeway {

/// A Mamba model as both of its published forms have it.
struct MambaShape {
  ModelOptions options;
  bool conv_bias = true;  ///< false: the convolution's bias is zero, and no tensor has it

  /// ModelOptions::check, with errors that name the configuration's file.
  void check(const std::string& path) const;
  /// Throws Error(usage), starting with `where`, for a number of layers that is out of range.
  void set_layers(std::int64_t count, const std::string& where);
};

/// The names of Hugging Face and mamba_ssm, which differ in that of the embedding. Causeway's are mamba_ssm's.
Mapping mamba_mapping(const MambaShape& shape, const std::string& embedding);

/// The folder's safetensors, or else its pytorch_model.bin.
TensorFiles read_mamba_weights(const std::string& folder);

/// Throws Error(usage), saying what it is, for a model that these forms cannot express.
MambaShape expressible_as_mamba(const ModelOptions& options, const Remembered& remembered);

}  // namespace causeway
