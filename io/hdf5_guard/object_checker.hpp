#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "io/hdf5_guard/b_trees.hpp"
#include "io/hdf5_guard/bytes.hpp"
#include "io/hdf5_guard/messages.hpp"

namespace causeway::hdf5_guard {

/// Checks the objects of a file: each one's header, and the structures outside it that have its attributes, links and
/// chunks. Throws for an object that libHDF5 could not read safely, for one that libHDF5 never writes, and for one with
/// features that Causeway does not use (shared messages, compound types, superblock extensions). Each object is checked
/// once. Safe to use from several threads.
class ObjectChecker {
 public:
  /// Checks the superblock and the root group. `damaged`: exit code of the errors thrown.
  ObjectChecker(const std::string& path, ExitCode damaged);

  /// Checks the object whose header is at byte `address`; `where` names it in errors.
  void check_object(std::uint64_t address, const std::string& where);

 private:
  struct Object;

  void refuse_user_block(const FileLocation& location);
  void read_superblock(const FileLocation& location);
  void read_header(std::uint64_t address, const FileLocation& location, Object& object);
  void read_old_header(std::uint64_t address, const FileLocation& location, Object& object);
  void read_messages(std::span<const std::byte> bytes, bool old, bool ordered, Object& object,
                     const FileLocation& location);
  void read_message(std::uint64_t kind, FieldReader fields, Object& object);
  void check_attribute(FieldReader& message);
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
