// Corrects the checksums of an HDF5 file's structures after a mutation, so that the fuzzer also reaches the code after
// their checks. Format: HDF5 File Format Specification 3.0.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <string_view>

#include "io/hdf5_guard/checksum.hpp"

namespace causeway::fuzz {

inline constexpr std::size_t checksum_bytes = 4;

/// Finds the structures of a file by their signatures; a checksum follows each.
class Hdf5Repair {
 public:
  explicit Hdf5Repair(std::span<std::uint8_t> file)
      : file_(file), text_(reinterpret_cast<const char*>(file.data()), file.size()) {}

  void all() {
    for (std::size_t at = 0; at + 8 <= file_.size(); ++at) structure(at);
  }

 private:
  std::uint64_t number(std::size_t at, std::size_t bytes) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes && at + i < file_.size(); ++i) value |= std::uint64_t{file_[at + i]} << (8 * i);
    return value;
  }
  bool is(std::size_t at, std::string_view signature) const { return text_.substr(at).starts_with(signature); }

  void put(std::size_t begin, std::uint64_t bytes) {
    if (begin > file_.size() || bytes > file_.size() - begin || file_.size() - begin - bytes < checksum_bytes) return;
    const std::uint32_t sum = hdf5_guard::metadata_checksum(std::as_bytes(file_.subspan(begin, bytes)));
    for (std::size_t i = 0; i < checksum_bytes; ++i)
      file_[begin + bytes + i] = static_cast<std::uint8_t>(sum >> (8 * i));
  }

  void structure(std::size_t at) {
    if (is(at, "\x89HDF\r\n\x1a\n") && at + 8 < file_.size() && file_[at + 8] >= 2)
      put(at, 44);
    else if (is(at, "OHDR"))
      object_header(at);
    else if (is(at, "BTHD"))
      tree(at);
    else if (is(at, "FRHP"))
      put(at, 142);
    else if (is(at, "FAHD"))
      fixed_array(at);
    else if (is(at, "EAHD"))
      extensible_array(at);
  }

  void object_header(std::size_t at) {
    const std::uint64_t flags = number(at + 5, 1), size_bytes = std::uint64_t{1} << (flags & 3);
    std::size_t body = at + 6 + (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0);
    const std::uint64_t size = number(body, size_bytes);
    body += size_bytes;
    if (size > file_.size()) return;
    put(at, body - at + size);
    messages(body, size, flags, 0);
  }

  /// Follows the continuation messages of a header.
  void messages(std::size_t begin, std::uint64_t size, std::uint64_t header_flags, int depth) {
    constexpr std::uint64_t continuation = 0x10;
    const std::size_t head = header_flags & 4 ? 6 : 4;
    for (std::size_t at = begin; depth < 8 && at + head <= begin + size && at + head <= file_.size();) {
      const std::uint64_t length = number(at + 1, 2);
      if (number(at, 1) == continuation) {
        const std::uint64_t address = number(at + head, 8), bytes = number(at + head + 8, 8);
        if (address < file_.size() && bytes >= 8 && bytes <= file_.size() - address) {
          put(address, bytes - checksum_bytes);
          messages(address + 4, bytes - 8, header_flags, depth + 1);
        }
      }
      at += head + length;
    }
  }

  void tree(std::size_t at) {
    put(at, 34);
    const std::uint64_t record = number(at + 10, 2), depth = number(at + 12, 2), root = number(at + 16, 8),
                        records = number(at + 24, 2);
    if (depth == 0) put(root, 6 + record * records);
  }

  void fixed_array(std::size_t at) {
    put(at, 24);
    const std::uint64_t entry = number(at + 6, 1), entries = number(at + 8, 8), block = number(at + 16, 8);
    if (entries < file_.size()) put(block, 14 + entry * entries);
  }

  void extensible_array(std::size_t at) {
    put(at, 68);
    const std::uint64_t element = number(at + 6, 1), in_index = number(at + 8, 1), smallest = number(at + 9, 1),
                        pointers = number(at + 10, 1), block = number(at + 60, 8);
    const std::uint64_t bits = number(at + 7, 1);
    if (smallest == 0 || !std::has_single_bit(smallest) || pointers == 0 || !std::has_single_bit(pointers)) return;
    // The index block has pointers to super blocks 2·log2(pointers) and up, and to each data block of the earlier super
    // blocks.
    const auto log2 = [](std::uint64_t value) { return static_cast<std::uint64_t>(std::countr_zero(value)); };
    const std::uint64_t super_blocks = 1 + bits - log2(smallest), direct = 2 * log2(pointers);
    if (super_blocks < direct || super_blocks > 64) return;
    put(block, 14 + element * in_index + 8 * (2 * (pointers - 1)) + 8 * (super_blocks - direct));
  }

  std::span<std::uint8_t> file_;
  std::string_view text_;  ///< the same bytes as file_
};

}  // namespace causeway::fuzz
