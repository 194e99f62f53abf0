#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// One tensor of a checkpoint, on one rank: the whole tensor's name and shape, and the elements that this rank writes.
struct CheckpointTensor {
  std::string name;  ///< "parameters/backbone.norm_f.weight"
  Shape shape;
  DType dtype = DType::f32;  ///< f64, f32, or bf16, which is stored as f32 (exact)
  /// Row-major elements of this rank. The ranges of the ranks are in rank order, without gaps, and cover the tensor.
  Range owned;
  const void* data = nullptr;  ///< owned.size() elements in the memory of the writing stream's device
};

struct CheckpointContent {
  /// Attributes of the root, without format and version: the model's options.
  std::map<std::string, hdf5::Value> attributes;
  std::map<std::string, hdf5::Value> state;  ///< of /state: step, tokens_seen, cursor, seed, loss
  std::vector<CheckpointTensor> tensors;     ///< the same list on every rank, except `owned` and `data`
};

inline constexpr const char* checkpoint_format = "causeway-checkpoint";

/// The type of the elements in the file.
constexpr hdf5::ElementType stored_as(DType dtype) { return dtype == DType::f64 ? hdf5::f64 : hdf5::f32; }

inline std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(shape[axis]);
  return extents;
}

}  // namespace causeway
