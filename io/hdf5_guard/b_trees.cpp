#include "io/hdf5_guard/b_trees.hpp"

#include <bit>

#include "kernels/core/integer.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::uint64_t deepest = 16;

std::uint64_t bytes_for(std::uint64_t limit) {
  return ceil_div(static_cast<std::uint64_t>(std::bit_width(limit)), std::uint64_t{8});
}

}  // namespace

void BTreeV1::walk(std::uint64_t address, std::optional<std::uint64_t> level) {
  location.require(seen.insert(address).second, "B-tree has a cycle at address {}", address);
  // libHDF5 reads a complete node, including its unused entries.
  const auto bytes = file.read(address, 24 + most * (key_bytes + address_bytes) + key_bytes, location);
  FieldReader fields(bytes, location);
  fields.signature("TREE");
  const std::uint64_t found_kind = fields.number(1), found_level = fields.number(1), entries = fields.number(2);
  location.require(
      found_kind == kind && found_level <= deepest && entries <= most && (!level || found_level == *level),
      "B-tree node at address {} has kind {}, level {} and {} entries, expected kind {}, the level above minus 1 and "
      "at most {} entries",
      address, found_kind, found_level, entries, kind, most);
  fields.skip(2 * address_bytes);
  for (std::uint64_t e = 0; e < entries; ++e) {
    FieldReader key(fields.take(key_bytes), location);
    const std::uint64_t child = fields.address();
    if (found_level > 0)
      walk(child, found_level - 1);
    else
      leaf(key, child);
  }
}

void BTreeV2::check(std::uint64_t address) {
  const auto head = file.read(address, 38, location);
  FieldReader fields(head, location);
  fields.signature(std::string_view("BTHD\0", 5));
  const std::uint64_t found_kind = fields.number(1), found_node = fields.number(4), found_record = fields.number(2),
                      depth = fields.number(2), split = fields.number(1), merge = fields.number(1),
                      root = fields.address(), records = fields.number(2);
  location.require(found_kind == kind && found_node == node_bytes && found_record == record_bytes && split == 100 &&
                       merge == 40 && depth <= deepest,
                   "B-tree at address {} has another kind, node size or depth than expected", address);
  const std::uint64_t all = fields.address();
  fields.checksum();
  if (root != undefined_address) walk_all(root, records, depth);
  // libHDF5 allocates a table for as many records as the header says.
  location.require(all == visited, "B-tree at address {} has {} records, its header says {}", address, visited, all);
}

void BTreeV2::walk_all(std::uint64_t root, std::uint64_t records, std::uint64_t depth) {
  constexpr std::uint64_t frame = 10;  // signature, version, kind, checksum
  most = {(node_bytes - frame) / record_bytes};
  count_bytes = total_bytes = {0};
  std::uint64_t total = most[0];
  for (std::uint64_t level = 1; level <= depth; ++level) {
    count_bytes.push_back(bytes_for(most[0]));
    const std::uint64_t pointer = address_bytes + count_bytes.back() + total_bytes.back();
    most.push_back((node_bytes - frame - pointer) / (record_bytes + pointer));
    location.require(most.back() > 0 && !__builtin_mul_overflow(total, most.back() + 1, &total),
                     "B-tree has depth {}, too deep for its node size", depth);
    total += most.back();
    total_bytes.push_back(bytes_for(total));
  }
  walk(root, records, depth);
}

void BTreeV2::walk(std::uint64_t address, std::uint64_t records, std::uint64_t level) {
  location.require(seen.insert(address).second, "B-tree has a cycle at address {}", address);
  location.require(records <= most[level], "B-tree node at address {} has {} records, expected at most {}", address,
                   records, most[level]);
  const auto bytes = file.read(address, node_bytes, location);
  FieldReader fields(bytes, location);
  fields.signature(level > 0 ? std::string_view("BTIN\0", 5) : std::string_view("BTLF\0", 5));
  location.require(fields.number(1) == kind, "B-tree node at address {} has another kind than its tree", address);
  for (std::uint64_t r = 0; r < records; ++r) {
    FieldReader record(fields.take(record_bytes), location);
    visit(record);
  }
  visited += records;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> children;
  for (std::uint64_t child = 0; level > 0 && child <= records; ++child) {
    const std::uint64_t where = fields.address(), below = fields.number(count_bytes[level]);
    fields.skip(total_bytes[level - 1]);
    children.emplace_back(where, below);
  }
  fields.checksum();
  for (const auto& [where, below] : children) walk(where, below, level - 1);
}

}  // namespace causeway::hdf5_guard
