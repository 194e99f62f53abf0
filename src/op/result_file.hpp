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

/// One dataset of the result: this rank's rows of it, or all of it where every rank holds the same.
struct ResultTensor {
  std::string name;
  Shape shape;       ///< whole
  TensorView local;  ///< this rank's rows if `per_token`
  bool per_token = false;
};

/// result.h5: appears whole, under its own name, when every rank has written its rows, or not at all. All ranks call
/// each function.
class ResultFile {
 public:
  /// Takes the name (the first rank makes the temporary file beside it), so that a wrong one is found before the work
  /// is done.
  ResultFile(const std::string& path, Communicator& ranks);

  /// Writes in rank order, one rank at a time, in float64 for f64 tensors and float32 for the others.
  void write(const std::vector<ResultTensor>& tensors, const std::map<std::string, hdf5::Value>& attributes,
             const Sharding& sharding);

 private:
  std::string path_;
  Communicator& ranks_;
  std::unique_ptr<AtomicFile> file_;  // the first rank's
  std::string temporary_;
};

}  // namespace causeway
