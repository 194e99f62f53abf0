#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/hdf5_guard/hdf5_guard.hpp"
#include "kernels/core/error.hpp"

namespace causeway::hdf5 {

/// Reads a chunked dataset of a file that is open for reading only. libHDF5 finds the chunks and reads their bytes as
/// they are stored; the filters are reverted here, once for each chunk, by io/hdf5_guard, which checks the size of the
/// result. (H5Dread would inflate the chunk itself and read past the end of one that is too short, so it would have to
/// be inflated twice.) The most recently read chunks are cached, as in H5Dread. Several threads may use one reader.
class ChunkReader {
 public:
  /// `dataset`, here and below: the hid_t of the dataset. `path`: the path of its file.
  ChunkReader(std::int64_t dataset, const std::string& path, const std::string& where, ExitCode damaged);

  /// Rows [begin, begin + rows), converted to `memory_type` (a hid_t) as H5Dread does. The dataset must have them.
  void read_rows(std::int64_t dataset, std::int64_t begin, std::int64_t rows, std::int64_t memory_type, void* out);
  /// The same for a list of strings of variable length.
  std::vector<std::string> read_strings(std::int64_t dataset, std::int64_t begin, std::int64_t rows);

 private:
  using Coordinates = std::vector<std::uint64_t>;  ///< an element or an extent, an entry for each dimension
  using Values = std::shared_ptr<const std::vector<std::byte>>;

  struct Box {
    Coordinates begin, extents;
  };
  struct Output {
    std::byte* values;
    const Coordinates& begin;  ///< the first element of the output, as an index of the dataset
    const Coordinates& extents;
  };

  void read_box(std::int64_t dataset, const Coordinates& chunk, Box box, std::int64_t memory_type, const Output& out);
  Values read_chunk(std::int64_t dataset, const Coordinates& begin);
  Values load_chunk(std::int64_t dataset, const Coordinates& begin) const;
  std::uint64_t stored_bytes(std::int64_t dataset, const Coordinates& begin) const;
  std::vector<std::byte> fill_value(std::int64_t dataset, std::int64_t memory_type, std::size_t bytes) const;

  std::string where_;
  ExitCode damaged_;
  Coordinates extents_, chunk_extents_;
  std::size_t element_bytes_ = 0, chunk_bytes_ = 0;
  std::vector<hdf5_guard::ChunkFilter> filters_;

  std::mutex one_at_a_time_;
  std::vector<std::pair<Coordinates, Values>> recent_;  ///< chunks by their first element, the one used last in front
  hdf5_guard::StringReader strings_;
  std::set<std::uint64_t> checked_strings_;  ///< first rows of the chunks whose references were checked
};

}  // namespace causeway::hdf5
