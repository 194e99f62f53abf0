#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensors/tensor_files.hpp"
#include "src/convert/mapping.hpp"
#include "src/model/model_options.hpp"
#include "src/model/parameters/fp8_level.hpp"

namespace causeway {

/// What the user names.
struct ConvertSource {
  std::string path;
  std::string model_config;  ///< of --model-config; "" if none
};

/// A model in the files of another program.
struct ForeignModel {
  ModelOptions options;
  TensorFiles files;
  Mapping mapping;
  std::string config = {};                 ///< the text of its configuration, for writing it back; may be ""
  std::vector<std::string> warnings = {};  ///< for the user: what the conversion cannot keep
  Fp8Level fp8 = Fp8Level::off;            ///< that it was trained with
};

/// What a converted checkpoint remembers of its source, so that the way back gives the same files.
struct Remembered {
  std::string format;                             ///< "" for a model that was trained here
  std::string config;                             ///< the text of the source's configuration
  std::map<std::string, TensorType> extras = {};  ///< extra tensors that the source had, with their types
  Fp8Level fp8 = Fp8Level::off;                   ///< that the model was trained with
};

/// How a model is written in a format.
struct ForeignLayout {
  Mapping mapping;
  std::map<std::string, std::string> texts = {};  ///< files beside the weights: name and content
};

/// A row of the table of formats.
struct Format {
  std::string_view name;
  std::string_view summary;
  bool takes_model_config;  ///< whether --model-config describes its models
  /// Whether the source's files look like this format.
  bool (*recognises)(const ConvertSource& source);
  /// Opens a source. Throws Error(usage) for a configuration that cannot be honoured, by name. Null: Causeway's own.
  ForeignModel (*open)(const ConvertSource& source);
  /// How the model is written, with `type` for most tensors. Throws Error(usage), saying what the format cannot
  /// express. Null: not written.
  ForeignLayout (*layout)(const ModelOptions& options, const Remembered& remembered, TensorType type);

  constexpr bool is_causeway() const { return open == nullptr; }
  constexpr bool is_written() const { return is_causeway() || layout != nullptr; }
};
std::span<const Format> convert_formats();
/// The row of that name. Throws Error(usage) for other names; `what` is the option.
const Format& find_convert_format(std::string_view name, std::string_view what);

// Each is defined in the file of its name.
ForeignModel open_huggingface(const ConvertSource& source);
bool is_huggingface(const ConvertSource& source);
ForeignLayout huggingface_layout(const ModelOptions& options, const Remembered& remembered, TensorType type);
ForeignModel open_mamba_ssm(const ConvertSource& source);
bool is_mamba_ssm(const ConvertSource& source);
ForeignModel open_vortex(const ConvertSource& source);
bool is_vortex(const ConvertSource& source);
ForeignLayout vortex_layout(const ModelOptions& options, const Remembered& remembered, TensorType type);
ForeignModel open_savanna(const ConvertSource& source);
bool is_savanna(const ConvertSource& source);

}  // namespace causeway
