#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "io/tensors/tensor_type.hpp"
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
  /// The type in the file, if it is not that of stored_as(dtype).
  std::optional<hdf5::ElementType> stored = {};

  hdf5::ElementType type_in_file() const;
};

/// What a checkpoint that `causeway convert` wrote keeps of the files that it was made from, so that the way back gives
/// the same files. Training does not write it.
struct CheckpointSource {
  std::string format;               ///< "huggingface"
  std::string config;               ///< the text of the model's configuration; "" if there was none
  std::vector<std::string> extras;  ///< tensors without a parameter of their own: "lm_head.weight f32"
  std::vector<std::string> types;   ///< parameters whose source had another type: "backbone.norm_f.weight bf16"
};

struct CheckpointContent {
  /// Attributes of the root, without format and version: the model's options.
  std::map<std::string, hdf5::Value> attributes;
  std::map<std::string, hdf5::Value> state;  ///< of /state: step, tokens_seen, cursor, seed, loss
  std::vector<CheckpointTensor> tensors;     ///< the same list on every rank, except `owned` and `data`
  std::optional<CheckpointSource> source = {};
};

inline constexpr const char* checkpoint_format = "causeway-checkpoint";

/// The type of the elements in the file.
constexpr hdf5::ElementType stored_as(DType dtype) { return dtype == DType::f64 ? hdf5::f64 : hdf5::f32; }

inline hdf5::ElementType CheckpointTensor::type_in_file() const { return stored.value_or(stored_as(dtype)); }

/// The types that tensors of a checkpoint have in the file.
constexpr hdf5::ElementType stored_as(TensorType type) {
  if (type == TensorType::f64) return hdf5::f64;
  if (type == TensorType::f16) return hdf5::f16;
  return type == TensorType::bf16 ? hdf5::bf16 : hdf5::f32;
}
constexpr TensorType tensor_type_of(hdf5::ElementType type) {
  if (type == hdf5::f64) return TensorType::f64;
  if (type == hdf5::f16) return TensorType::f16;
  return type == hdf5::bf16 ? TensorType::bf16 : TensorType::f32;
}

inline std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(shape[axis]);
  return extents;
}

}  // namespace causeway
