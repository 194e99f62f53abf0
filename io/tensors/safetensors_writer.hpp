#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/file/descriptor.hpp"
#include "io/tensors/tensor_files.hpp"

namespace causeway {

/// A tensor that will be written.
struct TensorPlan {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;

  std::int64_t bytes() const { return elements_in(shape) * size_of(type); }
};

/// Writes model.safetensors into a folder; if the tensors have more than `most_shard_bytes`, shards
/// model-00001-of-0000N.safetensors of at most that size (or of one tensor), and their index. Nothing is kept of what
/// was written. Errors are Error(io).
class SafetensorsWriter {
 public:
  /// `path_of`: the path of a file with that name, which does not exist.
  using PathOf = std::function<std::string(const std::string& name)>;
  SafetensorsWriter(PathOf path_of, std::vector<TensorPlan> tensors, std::int64_t most_shard_bytes);

  /// The tensors in the order in which they must be written: shard after shard, wide types first in each, so that every
  /// tensor is aligned.
  const std::vector<TensorPlan>& order() const { return order_; }
  /// The next bytes of the data, tensor after tensor.
  void write(std::span<const std::byte> bytes);
  /// After the last byte: writes the index, if there are several shards. All files are on the disk then.
  void finish();

 private:
  struct Shard {
    std::string name;
    std::size_t begin = 0, end = 0;  ///< its tensors, in order_
    std::int64_t bytes = 0;          ///< of its data
  };
  void open_shard();
  void close_shard();

  PathOf path_of_;
  std::vector<TensorPlan> order_;
  std::vector<Shard> shards_;
  std::size_t open_ = 0;  ///< the shard that is written
  Descriptor file_;
  std::string path_;
  std::int64_t left_ = 0;  ///< bytes of its data that are not written yet
};

}  // namespace causeway
