#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "io/hdf5_guard/bytes.hpp"

/// HDF5's two kinds of B-tree, walked with a bound on everything: no cycle, no node with more entries than fit.
/// Format: HDF5 File Format Specification 3.0, III.A.
namespace causeway::hdf5_guard {

inline constexpr std::uint64_t address_bytes = 8, checksum_bytes = 4;

/// Half of the maximum number of entries in a node of a version 1 B-tree, from the superblock.
struct TreeWidths {
  std::uint64_t links = 4, groups = 16, chunks = 32;  ///< a node has at most twice that
};

/// A version 1 B-tree: a node has keys and children alternately, and one key more than children. `leaf` gets each child
/// at level 0.
struct BTreeV1 {
  FileBytes& file;
  const FileLocation& location;
  std::uint64_t kind, key_bytes, most;
  std::function<void(FieldReader& key, std::uint64_t child)> leaf;
  std::set<std::uint64_t> seen = {};

  /// `level`: the expected level of the node; the root may have any level.
  void walk(std::uint64_t address, std::optional<std::uint64_t> level);
};

/// A version 2 B-tree. `visit` gets each record.
struct BTreeV2 {
  FileBytes& file;
  const FileLocation& location;
  std::uint64_t kind, record_bytes, node_bytes;
  std::function<void(FieldReader& record)> visit;
  /// For each level: the maximum number of records of a node; the sizes in bytes of two counts: a child's records, and
  /// the records of the child's subtree.
  std::vector<std::uint64_t> most = {}, count_bytes = {}, total_bytes = {};
  std::set<std::uint64_t> seen = {};
  std::uint64_t visited = 0;

  void check(std::uint64_t address);
  void walk_all(std::uint64_t root, std::uint64_t records, std::uint64_t depth);
  void walk(std::uint64_t address, std::uint64_t records, std::uint64_t level);
};

}  // namespace causeway::hdf5_guard
