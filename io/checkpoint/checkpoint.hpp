#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A checkpoint on disk, read by any number of ranks in any ranges. Opening it looks at every file: it is there, a
/// regular file, and of the size and SHA-256 that manifest.json says; and at what the index shows of each tensor. What
/// is damaged or missing throws Error(corrupt) naming the file. Checkpoints of version 1, one index.h5 without a
/// manifest, are read too; what is damaged in them shows when it is read.
class Checkpoint {
 public:
  /// `path`: a step-N folder, or a run, whose latest it then is.
  explicit Checkpoint(const std::string& path);
  /// The same by all ranks together, each looking at some of the files. Throws the same AgreedError on all. `between`
  /// is called between pieces of what this and read() read.
  Checkpoint(const std::string& path, Communicator& ranks, std::function<void()> between = {});

  const std::string& path() const { return path_; }  ///< the step-N folder
  bool has_attribute(const std::string& name) const { return index_.has_attribute(name); }
  std::int64_t integer(const std::string& name) const { return index_.integer_attribute(name); }
  double number(const std::string& name) const { return index_.number_attribute(name); }
  std::string text(const std::string& name) const { return index_.string_attribute(name); }
  const hdf5::Object& attributes() const { return index_; }
  hdf5::Object state() const { return index_.group("state"); }
  /// Of version 2.
  const std::optional<Manifest>& manifest() const { return manifest_; }

  struct TensorInfo {
    std::string name;  ///< "parameters/…", "optimizer/…"
    std::vector<std::int64_t> shape;
    hdf5::ElementType type;
    std::int64_t size() const;
  };
  std::vector<TensorInfo> tensors() const;

  /// Elements `range` of a tensor that must have this shape, converted to dtype, to `out` in the memory of the stream's
  /// device. Does not wait for it.
  void read(const std::string& name, const Shape& shape, DType dtype, Range range, void* out,
            const Stream& stream = Stream()) const;
  /// Elements of a tensor of any shape from `begin` on.
  void read(const std::string& name, std::int64_t begin, std::span<double> out) const;

 private:
  void find(const std::string& path);
  void check_files(int rank, int ranks) const;
  void open_index(int rank, int ranks);
  TensorInfo describe(const std::string& name) const;
  template <class Stored>
  void read_pieces(const std::string& name, const TensorInfo& tensor, Range range,
                   const std::function<void(std::int64_t begin, std::span<const Stored>)>& take) const;
  const hdf5::File& shard(std::int64_t number) const;

  std::string path_;
  std::function<void()> between_;
  std::optional<Manifest> manifest_;
  hdf5::File index_;
  mutable std::map<std::int64_t, hdf5::File> shards_;  // those opened last
};

}  // namespace causeway
