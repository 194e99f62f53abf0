#include "io/results/event_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <filesystem>

namespace causeway {
namespace {

constexpr std::string_view name_start = "events.out.tfevents.";

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8U; }

// Fields of protobuf messages: a varint of number · 8 + type, and the value.

std::string varint(std::uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(0x80 | (value & 0x7f));
  return text + static_cast<char>(value);
}

std::string integer_field(unsigned number, std::uint64_t value) { return varint(number << 3) + varint(value); }

std::string double_field(unsigned number, double value) {
  return varint(number << 3 | 1) + little_endian(std::bit_cast<std::uint64_t>(value), 8);
}

std::string bytes_field(unsigned number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

std::string float_field(unsigned number, float value) {
  return varint(number << 3 | 5) + little_endian(std::bit_cast<std::uint32_t>(value), 4);
}

/// The first fields of an Event.
std::string event(std::int64_t step, double wall_time) {
  return double_field(1, wall_time) + integer_field(2, static_cast<std::uint64_t>(step));
}

constexpr std::int64_t ten_digits = 9'999'999'999;

/// The SECONDS of the last event file in the folder; 0 without one.
std::int64_t last_seconds(const std::string& folder) {
  std::int64_t last = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::int64_t seconds = 0;
    if (name.starts_with(name_start))
      std::from_chars(name.data() + name_start.size(), name.data() + name.size(), seconds);
    if (seconds < ten_digits) last = std::max(last, seconds);
  }
  return last;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      entries[byte] = byte;
      for (int bit = 0; bit < 8; ++bit)
        entries[byte] = entries[byte] >> 1 ^ ((entries[byte] & 1) != 0 ? 0x82f63b78U : 0);
    }
    return entries;
  }();
  std::uint32_t crc = 0xffffffffU;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<std::uint8_t>(byte)) & 0xff] ^ crc >> 8;
  return ~crc;
}

std::string tf_record(std::string_view data) {
  const std::string length = little_endian(data.size(), 8);
  return length + little_endian(masked_crc(length), 4) + std::string(data) + little_endian(masked_crc(data), 4);
}

EventFile::EventFile(const std::string& folder, const std::string& host, double wall_time) {
  const std::int64_t seconds = std::max(static_cast<std::int64_t>(wall_time), last_seconds(folder) + 1);
  path_ =
      (std::filesystem::path(folder) / fmt::format("{}{:010}.{}.{}", name_start, seconds, host, ::getpid())).string();
  file_ =
      Descriptor(posix_check(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), path_, "create"));
  write(double_field(1, wall_time) + bytes_field(3, "brain.Event:2"));
}

void EventFile::restart_at(std::int64_t step, double wall_time) {
  constexpr std::uint64_t start = 1;
  write(event(step, wall_time) + bytes_field(7, integer_field(1, start)));
}

void EventFile::add(std::int64_t step, double wall_time, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars)
    summary += bytes_field(1, bytes_field(1, scalar.tag) + float_field(2, scalar.value));
  if (!summary.empty()) write(event(step, wall_time) + bytes_field(5, summary));
}

void EventFile::write(std::string_view event) {
  const std::string record = tf_record(event);
  if (!write_all_at(file_.get(), record, bytes_)) {
    const int reason = errno;
    (void)!::ftruncate(file_.get(), bytes_);  // readers stop at a record that is cut short
    errno = reason;
    posix_check(-1, path_, "write");
  }
  bytes_ += static_cast<std::int64_t>(record.size());
}

}  // namespace causeway
