#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/tensors/tensor_files.hpp"
#include "src/convert/transform.hpp"

namespace causeway {

/// A tensor of a format.
struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;

  std::int64_t elements() const { return elements_in(shape); }
};

/// How one parameter of Causeway is stored in a format.
struct MappingRow {
  std::string parameter;            ///< "backbone.norm_f.weight"
  std::vector<NamedShape> tensors;  ///< none for a parameter that is constant in the format
  Transform transform = stacked();
  /// For a format that keeps two parameters in one tensor: puts the values of `other`, whose row has no tensors, into
  /// those of this parameter before they are written.
  std::string other = {};
  std::function<Elements(Elements parameter, Elements other)> combine = {};
};

/// A tensor without a parameter of its own, which a file may have or not.
struct ExtraTensor {
  enum class Kind : std::uint8_t {
    copy,    ///< must equal tensor `copy_of`, as a tied head equals the embedding
    zero,    ///< must be zero: a bias for which the model has no place
    unused,  ///< does not matter; is not written
    made,    ///< is only written, with the values of `make`
  };
  NamedShape tensor;
  Kind kind = Kind::unused;
  std::string copy_of = {};
  /// A `copy` is written also where the source did not have it, for readers that expect every tensor.
  bool always_written = false;
  std::function<Elements()> make = {};
};

/// Every parameter of a model has one row. A tensor of a file that is in no row and no extra is refused.
struct Mapping {
  std::vector<MappingRow> rows;
  std::vector<ExtraTensor> extras;
};

}  // namespace causeway
