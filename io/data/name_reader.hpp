#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"

namespace causeway {

/// Reads the names of a dataset's documents one after the other, and checks them: next() throws Error(corrupt) for the
/// last one if the checksum of all names is wrong.
class NameReader {
 public:
  /// `data` must outlive the reader. Throws Error(corrupt) at once for the wrong checksum of no names.
  explicit NameReader(const Dataset& data);
  /// For each document one call.
  std::string next();

 private:
  void check() const;

  const Dataset& data_;
  std::vector<std::string> names_;  ///< that were read, from `first_` on
  std::int64_t first_ = 0, next_ = 0;
  std::uint32_t checksum_ = 0;
};

/// CRC-32 of names, each followed by a NUL: `so_far` continued with one more.
std::uint32_t names_checksum(std::uint32_t so_far, const std::string& name);

}  // namespace causeway
