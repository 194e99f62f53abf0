#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"

/// Thin owners over HDF5's C API, which stays behind this header. Files are untrusted: links other than hard ones,
/// external storage, virtual datasets (but for their description), filters from plug-ins and giant chunks are refused,
/// sizes are checked before memory is taken, and every error says "file.h5:/dataset: what was found". A damaged file
/// throws Error with Access::damaged; a file of the wrong form Error(usage). Objects keep no pointer to their File;
/// HDF5 closes the file with its last object. Several threads may use different objects of one process where
/// thread_safe() holds.
namespace causeway::hdf5_guard {
class FileGuard;
}

namespace causeway::hdf5 {

/// Whether the library was built so that several threads may call it.
bool thread_safe();

struct IdTraits {
  using type = std::int64_t;  // hid_t
  static type null() { return -1; }
  static void close(type id) noexcept;
};
using Id = Handle<IdTraits>;

/// What one element is, in the file or in memory. Byte order is HDF5's business.
struct ElementType {
  enum class Kind : std::uint8_t { integer, floating, string, other };
  Kind kind = Kind::other;
  int bytes = 0;  ///< 0 for strings of variable length
  bool is_signed = false;

  std::string to_string() const;  ///< "u16", "f32", "string", "other"
  bool operator==(const ElementType&) const = default;
};
inline constexpr ElementType f64{ElementType::Kind::floating, 8, true}, f32{ElementType::Kind::floating, 4, true};
inline constexpr ElementType i64{ElementType::Kind::integer, 8, true}, i32{ElementType::Kind::integer, 4, true};
inline constexpr ElementType u32{ElementType::Kind::integer, 4, false}, u16{ElementType::Kind::integer, 2, false};
inline constexpr ElementType u8{ElementType::Kind::integer, 1, false};
inline constexpr ElementType string{ElementType::Kind::string, 0, false};  ///< variable length, UTF-8

template <class T>
constexpr ElementType element_type() {
  using Kind = ElementType::Kind;
  static_assert(std::is_arithmetic_v<T>);
  return {std::is_integral_v<T> ? Kind::integer : Kind::floating, sizeof(T), std::is_signed_v<T>};
}

/// A scalar attribute: any integer type, any float type, fixed or variable strings.
using Value = std::variant<std::int64_t, double, std::string>;

/// What files, groups and datasets have in common: a place and attributes.
class Object {
 public:
  Object() = default;
  Object(Id id, std::string where, ExitCode damaged)
      : id_(std::move(id)), where_(std::move(where)), damaged_(damaged) {}

  const std::string& where() const { return where_; }  ///< "file.h5:/path", for messages
  std::int64_t id() const { return id_.get(); }

  bool has_attribute(const std::string& name) const;
  std::vector<std::string> attribute_names() const;
  Value attribute(const std::string& name) const;
  /// As attribute(), and of that kind: an integer may be stored as an integral float and a number as an integer.
  std::int64_t integer_attribute(const std::string& name) const;
  double number_attribute(const std::string& name) const;
  std::string string_attribute(const std::string& name) const;
  /// Creates or replaces.
  void set_attribute(const std::string& name, const Value& value);

 protected:
  Id id_;
  std::string where_;
  ExitCode damaged_ = ExitCode::corrupt;
};

/// How a dataset lies in the file. Contiguous unless chunk_rows > 0.
struct DatasetOptions {
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  ElementType type = f32;
  std::int64_t chunk_rows = 0;  ///< rows of a chunk; chunked datasets may grow by extend()
  bool shuffle = false;         ///< chunked only, as the next two
  int deflate = 0;              ///< zlib level, 0 none
  bool fletcher32 = false;      ///< a checksum a chunk: a flipped byte is an error on reading
  bool allocate_early =
      false;  ///< contiguous only: its bytes have a place in the file at once, unwritten (file_offset)
};

class ChunkReader;
class File;

class Dataset : public Object {
 public:
  using Object::Object;

  std::vector<std::int64_t> shape() const;
  std::int64_t rows() const;      ///< first extent; 1 for a scalar
  std::int64_t row_size() const;  ///< elements of one row
  std::int64_t size() const { return rows() * row_size(); }
  ElementType type() const;
  /// Where a contiguous dataset's first byte lies in the file; nothing if it has no such place.
  std::optional<std::int64_t> file_offset() const;
  void extend(std::int64_t rows);

  /// Rows [begin, begin + out.size() / row_size()) converted to T; integers out of T's range saturate, floats are not
  /// read as integers.
  template <class T>
  void read_rows(std::int64_t begin, std::span<T> out) const {
    read_rows(begin, out.data(), static_cast<std::int64_t>(out.size()), element_type<T>());
  }
  template <class T>
  void write_rows(std::int64_t begin, std::span<const T> in) {
    write_rows(begin, in.data(), static_cast<std::int64_t>(in.size()), element_type<T>());
  }
  /// The whole dataset; Error(usage) when it has more than `limit` elements.
  template <class T>
  std::vector<T> read_all(std::int64_t limit) const {
    require_at_most(limit);
    std::vector<T> values(static_cast<std::size_t>(size()));
    read_rows(0, std::span<T>(values));
    return values;
  }
  /// Strings, of fixed or variable length, of a one-dimensional dataset.
  std::vector<std::string> read_strings(std::int64_t begin, std::int64_t count) const;
  void write_strings(std::int64_t begin, std::span<const std::string> in);

 private:
  void require_at_most(std::int64_t limit) const;
  void read_rows(std::int64_t begin, void* out, std::int64_t count, ElementType type) const;
  void write_rows(std::int64_t begin, const void* in, std::int64_t count, ElementType type);
  void transfer(std::int64_t begin, std::int64_t count, std::int64_t memory_type, void* out, const void* in) const;

  friend class File;
  std::shared_ptr<ChunkReader> chunk_reader_;  ///< of a chunked dataset in a file that is open for reading only
};

/// A dataset that shows elements of others: each box those of a one-dimensional dataset of the same path in another
/// file, row-major.
struct VirtualDataset {
  struct Part {
    std::string file;                         ///< beside the file that shows it
    std::vector<std::int64_t> start, extent;  ///< the box
    std::int64_t source_begin = 0;            ///< its first element there
    bool operator==(const Part&) const = default;
  };
  std::vector<std::int64_t> shape;
  ElementType type = f32;
  std::vector<Part> parts;
};

enum class Access : std::uint8_t {
  read,    ///< an existing file
  update,  ///< an existing file, to be changed
  create,  ///< a new file, replacing what is there
};

class File : public Object {
 public:
  /// `damaged` is the exit code of errors HDF5 itself finds when reading: truncation, checksums, nonsense.
  static File open(const std::string& path, Access access, ExitCode damaged = ExitCode::corrupt);

  const std::string& path() const { return path_; }

  /// Paths are "/a/b" or "a/b".
  bool exists(std::string_view path) const;
  bool is_dataset(std::string_view path) const;
  std::vector<std::string> list(std::string_view path = "/") const;  ///< names in a group, sorted
  Dataset dataset(std::string_view path) const;
  Object group(std::string_view path) const;
  /// Both create missing groups on the way.
  Dataset create_dataset(std::string_view path, const DatasetOptions& options);
  Object create_group(std::string_view path);
  void remove(std::string_view path);
  /// What no part covers, and what is missing, shows as NaN.
  void create_virtual(std::string_view path, const VirtualDataset& dataset);
  /// What a virtual dataset says it shows; opens none of it, and does not say whether it may be trusted. Error(usage)
  /// for any other dataset, one of more than `most_parts`, and for what is not made of boxes of floating numbers.
  VirtualDataset virtual_dataset(std::string_view path, std::int64_t most_parts) const;
  template <class T>
  Dataset write(std::string_view path, std::vector<std::int64_t> shape, std::span<const T> values) {
    Dataset dataset = create_dataset(path, {.shape = std::move(shape), .type = element_type<T>()});
    dataset.write_rows(0, values);
    return dataset;
  }

  void flush();
  /// Closes and reports what went wrong on the way to the disk, which a destructor cannot. All objects of the file must
  /// be gone.
  void close();

 private:
  using Object::Object;
  Id open_checked(const std::string& path) const;
  Id open_object(std::string_view path) const;
  void create_parents(std::string_view path);
  Id create_one_group(const std::string& path);
  std::string path_;
  Access access_ = Access::read;
  std::shared_ptr<hdf5_guard::FileGuard> guard_;  ///< checks objects before libHDF5 reads them; none for writing
};

}  // namespace causeway::hdf5
