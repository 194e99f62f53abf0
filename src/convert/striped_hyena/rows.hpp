#pragma once

#include <string>

#include "io/tensors/tensor_files.hpp"
#include "src/convert/mapping.hpp"
#include "src/convert/striped_hyena/vortex_config.hpp"

namespace causeway {

/// How a form of StripedHyena 2's weights calls the tensors of a layer, after its prefix.
struct StripedHyenaNames {
  std::string norm, norm2;
  std::string gate, up, down;                ///< of the MLP
  std::string projections, out, featurizer;  ///< of se, mr and li
  std::string attention_projections, attention_out, inv_freq;
};

/// The rows of a mapping that vortex's and savanna's forms have in common: all but the filters.
class StripedHyenaRows {
 public:
  /// `files`: of the source; null for writing.
  StripedHyenaRows(const VortexShape& shape, const StripedHyenaNames& names, const TensorFiles* files)
      : shape_(shape), names_(names), files_(files) {}

  void row(std::string parameter, std::string tensor, std::vector<std::int64_t> extents,
           Transform transform = stacked());
  /// A parameter that has no tensor of its own.
  void add(std::string parameter, Transform transform);
  /// The last row's tensor keeps the parameter `other`, too.
  void combine_last(std::string other, Elements (*combine)(Elements, Elements));
  /// A tensor for which the model has no place: it must be zero, if it is there.
  void zero(std::string tensor, std::int64_t extent);

  /// Norms, MLP, projections and attention of a layer.
  void layer(std::size_t number, const std::string& prefix, const std::vector<std::int64_t>& featurizer_extents);
  /// The head, or where it is tied a copy of the embedding that may be there.
  void head(const std::string& tensor, const std::string& embedding);

  Mapping mapping;

 private:
  void out_projection(const std::string& mixer, const std::string& tensor, bool bias);
  void attention(const std::string& mixer, const std::string& prefix);

  const VortexShape& shape_;
  const StripedHyenaNames& names_;
  const TensorFiles* files_;
};

}  // namespace causeway
