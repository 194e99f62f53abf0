#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/messages.hpp"
#include "io/hdf5_guard/trees.hpp"

namespace causeway::hdf5_guard {

/// What stands between a file that anybody may have made and HDF5 1.10, which believes most of what a file says: sizes,
/// counts, addresses, and that what is to end ends. Every object is taken apart here first, with the structures that
/// hold its attributes, links and chunks; what HDF5 would stumble over, what it never writes, and what Causeway has no
/// use for (links' and types' sharing, compound types, files within files) is refused. Safe to use from several
/// threads.
class ObjectChecker {
 public:
  /// Looks at the superblock and the root group. Throws with the code `damaged`.
  ObjectChecker(const std::string& path, ExitCode damaged);

  /// Looks at the object whose header lies at `address`; `where` names it in errors.
  void check_object(std::uint64_t address, const std::string& where);

 private:
  struct Object;

  void read_superblock(const FileLocation& location);
  void read_header(std::uint64_t address, const FileLocation& location, Object& object);
  void read_old_header(std::uint64_t address, const FileLocation& location, Object& object);
  void read_messages(std::span<const std::byte> bytes, bool old, bool ordered, Object& object,
                     const FileLocation& location);
  void read_message(std::uint64_t kind, Fields fields, Object& object);
  void check_attribute(Fields& message);
  void check_references(std::span<const std::byte> references, std::uint64_t count, const Datatype& type,
                        const FileLocation& location);
  void check_dataset(const Object& object, const FileLocation& location);

  std::string path_;
  ExitCode damaged_;
  std::mutex one_at_a_time_;
  FileBytes file_;
  TreeWidths widths_;
  std::uint64_t root_ = 0;
  std::set<std::uint64_t> checked_;
};

}  // namespace causeway::hdf5_guard
