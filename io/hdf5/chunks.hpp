#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/core/error.hpp"

namespace causeway::hdf5 {

/// A chunk of a dataset (a hid_t) with its filters taken back, all of it; nothing where the file has none. `begin`: its
/// first element. Refuses a chunk that does not come out at the size its shape says, which HDF5 would read all the
/// same, past its end. Checksums are left to HDF5.
std::vector<std::byte> read_chunk(std::int64_t dataset, const std::vector<std::uint64_t>& begin,
                                  const std::string& where, ExitCode damaged);

/// Looks at each of a dataset's chunks once, before HDF5 reads it.
class ChunkChecks {
 public:
  /// Those that hold rows [begin, begin + rows).
  void check(std::int64_t dataset, std::int64_t begin, std::int64_t rows, const std::string& where, ExitCode damaged);

 private:
  std::mutex one_at_a_time_;
  std::set<std::vector<std::uint64_t>> checked_;
};

}  // namespace causeway::hdf5
