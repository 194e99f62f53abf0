#include "io/tensors/zip_directory.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t end_bytes = 22, locator_bytes = 20, end64_bytes = 56, central_bytes = 46, local_bytes = 30;
constexpr std::int64_t longest_comment = 65535, largest_directory = std::int64_t{256} << 20;
constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50,
                        locator_signature = 0x07064b50, end64_signature = 0x06064b50;
constexpr std::uint64_t in_extra32 = 0xffffffff;  ///< the value is in a ZIP64 record

std::uint64_t number_at(std::span<const std::byte> bytes, std::int64_t at, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i)
    value |= std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(at + i)]) << (8 * i);
  return value;
}

std::vector<std::byte> read_bytes(const ByteSource& file, std::int64_t offset, std::int64_t count) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count));
  file.read(offset, bytes);
  return bytes;
}

/// Where the central directory is, and how many entries it has.
struct Directory {
  std::uint64_t offset, bytes, entries;
};

class ZipReader {
 public:
  explicit ZipReader(const ByteSource& file) : file_(file) {}

  std::vector<ZipEntry> read() {
    const Directory directory = find_directory();
    check(directory.offset <= static_cast<std::uint64_t>(file_.size()) &&
              directory.bytes <= static_cast<std::uint64_t>(file_.size()) - directory.offset,
          "its central directory is not within the file");
    check(directory.bytes <= static_cast<std::uint64_t>(largest_directory), "its central directory is too large");
    check(directory.entries <= directory.bytes / central_bytes, "its central directory is too small for its entries");
    end_of_members_ = static_cast<std::int64_t>(directory.offset);
    const std::vector<std::byte> bytes = read_bytes(file_, end_of_members_, static_cast<std::int64_t>(directory.bytes));
    std::vector<ZipEntry> entries;
    std::int64_t at = 0;
    for (std::uint64_t n = 0; n < directory.entries; ++n) entries.push_back(entry(bytes, at));
    check_disjoint(entries);
    return entries;
  }

 private:
  void check(bool holds, const char* what) const {
    if (!holds) fail(ExitCode::corrupt, "{}: the ZIP archive is damaged: {}", file_.path(), what);
  }

  Directory find_directory() const {
    const std::int64_t most = std::min(file_.size(), end_bytes + longest_comment), begin = file_.size() - most;
    const std::vector<std::byte> tail = read_bytes(file_, begin, most);
    for (std::int64_t at = most - end_bytes; at >= 0; --at) {
      if (number_at(tail, at, 4) != end_signature) continue;
      if (at + end_bytes + static_cast<std::int64_t>(number_at(tail, at + 20, 2)) != most) continue;
      const std::uint64_t disk = number_at(tail, at + 4, 2);
      if (const auto found = find_directory64(begin + at)) return *found;
      one_disk(disk == 0 && number_at(tail, at + 6, 2) == 0);
      return {number_at(tail, at + 16, 4), number_at(tail, at + 12, 4), number_at(tail, at + 10, 2)};
    }
    fail(ExitCode::corrupt, "{}: the ZIP archive has no end record: it is truncated, or a part of it is missing",
         file_.path());
  }

  /// From the ZIP64 records, which are before the end record if there are any.
  std::optional<Directory> find_directory64(std::int64_t end) const {
    if (end < locator_bytes) return std::nullopt;
    const std::vector<std::byte> locator = read_bytes(file_, end - locator_bytes, locator_bytes);
    if (number_at(locator, 0, 4) != locator_signature) return std::nullopt;
    one_disk(number_at(locator, 4, 4) == 0 && number_at(locator, 16, 4) <= 1);
    const std::uint64_t offset = number_at(locator, 8, 8);
    check(file_.size() >= end64_bytes && offset <= static_cast<std::uint64_t>(file_.size() - end64_bytes),
          "its ZIP64 end record is not within the file");
    const std::vector<std::byte> record = read_bytes(file_, static_cast<std::int64_t>(offset), end64_bytes);
    check(number_at(record, 0, 4) == end64_signature, "it has no ZIP64 end record where it says");
    return Directory{number_at(record, 48, 8), number_at(record, 40, 8), number_at(record, 32, 8)};
  }
  void one_disk(bool holds) const {
    require(holds, "{}: is a ZIP archive of several disks, expected one", file_.path());
  }

  /// The entry at `at` of the central directory; moves `at` to the next one.
  ZipEntry entry(std::span<const std::byte> directory, std::int64_t& at) const {
    check(at + central_bytes <= std::ssize(directory), "its central directory ends within an entry");
    const auto field = [&, begin = at](std::int64_t offset, int size) {
      return number_at(directory, begin + offset, size);
    };
    check(field(0, 4) == central_signature, "an entry of its central directory has no signature");
    const auto name_bytes = static_cast<std::int64_t>(field(28, 2)),
               extra_bytes = static_cast<std::int64_t>(field(30, 2));
    const std::int64_t next = at + central_bytes + name_bytes + extra_bytes + static_cast<std::int64_t>(field(32, 2));
    check(next <= std::ssize(directory), "its central directory ends within an entry");
    const auto* name = reinterpret_cast<const char*>(directory.data() + at + central_bytes);
    ZipEntry found{.name = std::string(name, static_cast<std::size_t>(name_bytes)),
                   .crc32 = static_cast<std::uint32_t>(field(16, 4))};
    require((field(8, 2) & 1) == 0, "{}: {} is encrypted", file_.path(), found.name);
    require(field(10, 2) == 0, "{}: {} is compressed, expected an archive that stores its members", file_.path(),
            found.name);
    std::uint64_t sizes[] = {field(24, 4), field(20, 4), field(42, 4)};  // uncompressed, compressed, local header
    read_extra64(directory.subspan(static_cast<std::size_t>(at + central_bytes + name_bytes),
                                   static_cast<std::size_t>(extra_bytes)),
                 sizes);
    check(sizes[0] == sizes[1], "a stored member has two sizes");
    at = next;
    return locate(std::move(found), sizes[2], sizes[0]);
  }

  /// The ZIP64 field of an entry has those of the three numbers that are all ones in the entry.
  void read_extra64(std::span<const std::byte> extra, std::span<std::uint64_t> sizes) const {
    constexpr std::uint64_t zip64 = 1;
    std::int64_t at = 0;
    while (at + 4 <= std::ssize(extra)) {
      const std::uint64_t id = number_at(extra, at, 2);
      const std::int64_t end = at + 4 + static_cast<std::int64_t>(number_at(extra, at + 2, 2));
      check(end <= std::ssize(extra), "an extra field is longer than its entry");
      at += 4;
      for (std::uint64_t& size : sizes) {
        if (id != zip64 || size != in_extra32) continue;
        check(at + 8 <= end, "a ZIP64 field is too short");
        size = number_at(extra, at, 8);
        at += 8;
      }
      at = end;
    }
  }

  /// Skips the local header at `header`, whose extra field (padding) has a length of its own.
  ZipEntry locate(ZipEntry found, std::uint64_t header, std::uint64_t bytes) const {
    const auto end = static_cast<std::uint64_t>(end_of_members_);
    check(header <= end && end - header >= local_bytes && bytes <= end, "a member is not within the file");
    const std::vector<std::byte> local = read_bytes(file_, static_cast<std::int64_t>(header), local_bytes);
    check(number_at(local, 0, 4) == local_signature, "a member has no local header");
    found.offset = static_cast<std::int64_t>(header + local_bytes + number_at(local, 26, 2) + number_at(local, 28, 2));
    found.bytes = static_cast<std::int64_t>(bytes);
    check(found.offset <= end_of_members_ - found.bytes, "a member is not within the file");
    return found;
  }

  void check_disjoint(const std::vector<ZipEntry>& entries) const {
    std::vector<const ZipEntry*> sorted;
    std::set<std::string_view> names;
    for (const ZipEntry& each : entries) {
      if (!names.insert(each.name).second)
        fail(ExitCode::corrupt, "{}: the ZIP archive is damaged: it has two members {}", file_.path(), each.name);
      if (each.bytes > 0) sorted.push_back(&each);
    }
    std::ranges::sort(sorted, {}, &ZipEntry::offset);
    for (std::size_t n = 1; n < sorted.size(); ++n)
      check(sorted[n - 1]->offset + sorted[n - 1]->bytes <= sorted[n]->offset, "two of its members overlap");
  }

  const ByteSource& file_;
  std::int64_t end_of_members_ = 0;
};

}  // namespace

std::vector<ZipEntry> read_zip_directory(const ByteSource& file) { return ZipReader(file).read(); }

bool looks_like_zip(const ByteSource& file) {
  return file.size() >= local_bytes && number_at(read_bytes(file, 0, 4), 0, 4) == local_signature;
}

}  // namespace causeway
