#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/messages.hpp"

/// The structures by which HDF5 finds links, attributes and chunks, walked as HDF5 walks them before it does, with a
/// bound on everything. Format: HDF5 File Format Specification 3.0, III and VII.
namespace causeway::hdf5_guard {

/// How wide the nodes of the older trees are, from the superblock.
struct TreeWidths {
  std::uint64_t links = 4, groups = 16, chunks = 32;  ///< each node has at most twice that
};

/// A group of the older kind: a tree of its links, their names in a heap. `visit` gets every object's address.
void check_symbol_table(FileBytes& file, std::uint64_t tree, std::uint64_t heap, const TreeWidths& widths,
                        const FileLocation& location);

enum class DenseKind : std::uint8_t { links, attributes };
/// Links or attributes too many for their object's header: `visit` gets the message of each.
void check_dense(FileBytes& file, const DenseStorage& storage, DenseKind kind, const FileLocation& location,
                 const std::function<void(Fields&)>& visit);

/// That the index of a dataset's chunks can be walked.
void check_chunk_index(FileBytes& file, const DatasetLayout& layout, const Dataspace& space, bool filtered,
                       const TreeWidths& widths, const FileLocation& location);

}  // namespace causeway::hdf5_guard
