#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_content.hpp"
#include "io/checkpoint/checkpoint_index.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A checkpoint on disk. Any number of ranks can read it, in any ranges. Opening it verifies every file (a regular file
/// with the size and SHA-256 in manifest.json) and the index's parts of each tensor. A damaged or missing file throws
/// Error(corrupt) with its name. Version 1 (one index.h5 without a manifest) can be read too; damage in it throws when
/// the damaged part is read.
class Checkpoint {
 public:
  /// `path`: a step-N folder, or the folder of a run, which means its latest checkpoint.
  explicit Checkpoint(const std::string& path);
  /// Collective: each rank verifies some of the files. Throws the same AgreedError on all ranks. `between` is called
  /// between the pieces that the constructor and read() read.
  Checkpoint(const std::string& path, Communicator& ranks, std::function<void()> between = {});

  const std::string& path() const { return path_; }  ///< the step-N folder
  bool has_attribute(const std::string& name) const { return index_.has_attribute(name); }
  std::int64_t integer(const std::string& name) const { return index_.integer_attribute(name); }
  double number(const std::string& name) const { return index_.number_attribute(name); }
  std::string text(const std::string& name) const { return index_.string_attribute(name); }
  const hdf5::Object& attributes() const { return index_; }
  hdf5::Object state() const { return index_.group("state"); }
  /// What `causeway convert` kept of the files that the checkpoint was made from.
  std::optional<CheckpointSource> source() const;
  /// Nothing for version 1.
  const std::optional<Manifest>& manifest() const { return manifest_; }

  struct TensorInfo {
    std::string name;  ///< "parameters/…", "optimizer/…"
    std::vector<std::int64_t> shape;
    hdf5::ElementType type;
    std::int64_t size() const;
  };
  std::vector<TensorInfo> tensors() const;
  /// Their names only, which is cheaper, and one of them.
  std::vector<std::string> names() const;
  TensorInfo tensor(const std::string& name) const;
  /// Groups and datasets of the root that no checkpoint of Causeway has.
  std::vector<std::string> unknown_objects() const;

  /// Reads the row-major elements `range` of a tensor, converted to dtype, into `out` in the memory of the stream's
  /// device. The tensor must have this shape. Throws Error(non_finite) for a value that is not finite in dtype: nothing
  /// that a checkpoint stores is usable then. Does not wait for the stream.
  void read(const std::string& name, const Shape& shape, DType dtype, Range range, void* out,
            const Stream& stream = Stream()) const;
  /// Reads the row-major elements [begin, begin + out.size()) of a tensor of any shape.
  void read(const std::string& name, std::int64_t begin, std::span<double> out) const;
  /// The same, in the type of the tensor in the file.
  void read_stored(const std::string& name, std::int64_t begin, std::span<std::byte> out) const;

 private:
  void find(const std::string& path);
  void check_files(int rank, int ranks) const;
  void open_index(int rank, int ranks);
  /// Calls `take` with the elements from `begin` on, in the tensor's type, for one piece of the range after the other.
  void read_pieces(const std::string& name, const TensorInfo& tensor, Range range,
                   const std::function<void(std::int64_t begin, std::span<const std::byte>)>& take) const;
  void require_range(const TensorInfo& tensor, Range range) const;
  const hdf5::File& shard(std::int64_t number) const;

  std::string path_;
  std::function<void()> between_;
  std::optional<Manifest> manifest_;
  hdf5::File index_;
  mutable std::map<std::int64_t, hdf5::File> shards_;  ///< open shards, by number
};

}  // namespace causeway
