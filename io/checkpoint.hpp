#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/hdf5.hpp"
#include "kernels/tensor.hpp"
#include "parallel/communicator.hpp"
#include "parallel/shard_layout.hpp"

namespace causeway {

/// One tensor of a checkpoint as one rank knows it: what it is as a whole, and the elements this rank brings.
struct CheckpointTensor {
  std::string name;  ///< "parameters/backbone.norm_f.weight"
  Shape shape;
  DType dtype = DType::f32;  ///< f64, f32, or bf16, which is stored as f32 (exact)
  Range owned;  ///< row-major elements; the ranks' ranges follow each other in rank order and cover the tensor
  const void* data = nullptr;  ///< owned.size() elements in the memory of the writing stream's device
};

struct CheckpointContent {
  std::map<std::string, hdf5::Value>
      attributes;                            ///< of the root, beside format and version: what kind of model this is
  std::map<std::string, hdf5::Value> state;  ///< of /state: step, tokens_seen, cursor, seed, loss
  std::vector<CheckpointTensor> tensors;     ///< the same list on every rank, but for `owned` and `data`
};

/// Writes `run`/step-N/index.h5 and points `run`/latest at it. Every rank calls it with its parts; rank 0 writes, a
/// bounded piece at a time. The checkpoint appears whole or not at all: step-N.tmp/ → fsync → rename → fsync → latest
/// replaced by rename. The same content gives the same bytes. Throws the same Error(io) on every rank.
void write_checkpoint(const std::string& run, std::int64_t step, const CheckpointContent& content, Communicator& ranks,
                      const Stream& stream);

/// The step-N folder that `run`/latest names; nothing where there is none.
std::optional<std::string> latest_checkpoint(const std::string& run);

/// A checkpoint on disk, read by any number of ranks in any ranges. What is damaged or missing throws Error(corrupt)
/// naming file and dataset.
class Checkpoint {
 public:
  /// `path`: a step-N folder, or a run, whose latest it then is.
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }  ///< the step-N folder
  bool has_attribute(const std::string& name) const { return file_.has_attribute(name); }
  std::int64_t integer(const std::string& name) const { return file_.integer_attribute(name); }
  double number(const std::string& name) const { return file_.number_attribute(name); }
  std::string text(const std::string& name) const { return file_.string_attribute(name); }
  hdf5::Object state() const { return file_.group("state"); }

  /// Elements `range` of a tensor that must have this shape, converted to dtype, to `out` in the memory of the stream's
  /// device. Does not wait for it.
  void read(const std::string& name, const Shape& shape, DType dtype, Range range, void* out,
            const Stream& stream = Stream()) const;

 private:
  std::string path_;
  hdf5::File file_;
};

}  // namespace causeway
