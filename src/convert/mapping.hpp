#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/convert/transform.hpp"

namespace causeway {

/// A tensor of a format.
struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;

  std::int64_t elements() const;
};

/// How one parameter of Causeway is stored in a format.
struct MappingRow {
  std::string parameter;            ///< "backbone.norm_f.weight"
  std::vector<NamedShape> tensors;  ///< none for a parameter that is constant in the format
  Transform transform = stacked();
};

/// A tensor without a parameter of its own, which a file may have or not.
struct ExtraTensor {
  enum class Kind : std::uint8_t {
    copy,    ///< must equal tensor `copy_of`, as a tied head equals the embedding
    zero,    ///< must be zero: a bias for which the model has no place
    unused,  ///< does not matter; is not written
  };
  NamedShape tensor;
  Kind kind = Kind::unused;
  std::string copy_of = {};
  /// Of `copy`: written to models that did not come from a file which had it or not.
  bool written_by_default = false;
};

/// Every parameter of a model has one row. A tensor of a file that is in no row and no extra is refused.
struct Mapping {
  std::vector<MappingRow> rows;
  std::vector<ExtraTensor> extras;
};

}  // namespace causeway
