#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "io/hdf5/hdf5.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One dataset of the result: the rows of this rank, or all of it where every rank has the same values.
struct ResultTensor {
  std::string name;
  Shape shape;       ///< of the whole dataset
  TensorView local;  ///< the rows of this rank if `per_token`
  bool per_token = false;
};

/// result.h5. It appears under its name when every rank has written its rows, or not at all. Every function is
/// collective.
class ResultFile {
 public:
  /// The first rank creates a temporary file in the folder of `path`. So a path that cannot be written is detected
  /// before anything is computed.
  ResultFile(const std::string& path, Communicator& ranks);

  /// The ranks write one after the other: f64 tensors as float64, all others as float32.
  void write(const std::vector<ResultTensor>& tensors, const std::map<std::string, hdf5::Value>& attributes,
             const Sharding& sharding);

 private:
  std::string path_;
  Communicator& ranks_;
  std::unique_ptr<AtomicFile> file_;  ///< on the first rank
  std::string temporary_;
};

}  // namespace causeway
