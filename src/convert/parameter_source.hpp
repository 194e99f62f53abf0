#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "kernels/core/tensor.hpp"
#include "src/convert/elements.hpp"
#include "src/convert/format.hpp"

namespace causeway {

/// A parameter of a model that is converted.
struct ConvertedParameter {
  std::string name;  ///< "backbone.norm_f.weight"
  Shape shape;
  TensorType type = TensorType::f32;  ///< of the values that `read` gives
  /// The types of the tensors that it was made from, now or in an earlier conversion; empty if not known.
  std::vector<TensorType> source_types = {};

  std::int64_t elements() const { return shape.size(); }
};

/// A model whose parameters are read one at a time: a checkpoint, or the files of another program.
struct ParameterSource {
  std::string path;
  std::string_view format;
  ModelOptions options;
  std::vector<ConvertedParameter> parameters;  ///< in the model's order
  Remembered remembered;
  std::map<std::string, hdf5::Value> state = {};  ///< of a checkpoint's /state: step, tokens_seen, …
  std::vector<std::string> warnings;
  std::function<Elements(const ConvertedParameter& parameter)> read;
};

/// Finds the format, unless `from` is one of the table's, and opens the source. Checks everything that needs no values
/// of parameters: Error(usage) for tensors without a use, missing ones, other shapes, types that are not floating.
ParameterSource open_parameter_source(const ConvertSource& source, const std::string& from);

/// The same for a model of another program, and for a checkpoint.
ParameterSource foreign_parameters(std::shared_ptr<const ForeignModel> model, const ConvertSource& source,
                                   std::string_view format);
ParameterSource checkpoint_parameters(const std::string& path);
/// Whether the source is a checkpoint or a run.
bool is_causeway(const ConvertSource& source);

}  // namespace causeway
