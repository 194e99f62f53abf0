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

/// Owners of libHDF5's handles. Its C API is used only in this room. Files are not trusted: io/hdf5_guard checks them
/// first; soft and external links, external storage, virtual datasets (except their description), filters from plug-ins
/// and chunks of more than 256 MiB throw; sizes are checked before memory is allocated. Every error says
/// "file.h5:/dataset: found …, expected …". A damaged file throws Error with the code given to File::open(), a file of
/// the wrong form Error(usage). Objects keep no pointer to their File; libHDF5 closes the file with its last object.
/// Several threads may use different objects if thread_safe().
namespace causeway::hdf5_guard {
class FileGuard;
}

namespace causeway::hdf5 {

/// Whether the library was built so that several threads may call it.
bool thread_safe();

/// Whether a file is HDF5, by its first bytes. Throws Error(io) for one that cannot be read.
bool is_hdf5(const std::string& path);

struct IdTraits {
  using type = std::int64_t;  // hid_t
  static type null() { return -1; }
  static void close(type id) noexcept;
};
using Id = Handle<IdTraits>;

/// The type of an element, in the file or in memory. libHDF5 converts byte orders.
struct ElementType {
  enum class Kind : std::uint8_t { integer, floating, bfloat, string, other };
  Kind kind = Kind::other;
  int bytes = 0;  ///< 0 for strings of variable length
  bool is_signed = false;

  std::string to_string() const;  ///< "u16", "f32", "bf16", "string", "other"
  bool operator==(const ElementType&) const = default;
};
inline constexpr ElementType f64{ElementType::Kind::floating, 8, true}, f32{ElementType::Kind::floating, 4, true};
inline constexpr ElementType f16{ElementType::Kind::floating, 2, true}, bf16{ElementType::Kind::bfloat, 2, true};
constexpr bool is_weight(ElementType type) { return type == f64 || type == f32 || type == f16 || type == bf16; }
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

/// Common to files, groups and datasets: an open handle and attributes.
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
  /// As attribute(), of one kind. Throws Error(usage) for another kind. An integer may be stored as a float without
  /// fraction, a number as an integer.
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

/// How a dataset is stored. Contiguous unless chunk_rows > 0.
struct DatasetOptions {
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  ElementType type = f32;
  std::int64_t chunk_rows = 0;  ///< rows of a chunk; a chunked dataset can grow with extend()
  bool shuffle = false;         ///< this and the next two: only for chunked datasets
  int deflate = 0;              ///< zlib level, 0 none
  bool fletcher32 = false;      ///< a checksum for each chunk: a changed byte is an error when it is read
  bool allocate_early = false;  ///< only for contiguous datasets: it has a file_offset() before it is written
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
  /// The first byte of a contiguous dataset in the file; nothing for other datasets and before allocation.
  std::optional<std::int64_t> file_offset() const;
  void extend(std::int64_t rows);

  /// Rows [begin, begin + out.size() / row_size()), converted to T. Integers outside T's range become its nearest
  /// value. Throws Error(usage) where floats are read as integers.
  template <class T>
  void read_rows(std::int64_t begin, std::span<T> out) const {
    read_rows(begin, out.data(), static_cast<std::int64_t>(out.size()), element_type<T>());
  }
  template <class T>
  void write_rows(std::int64_t begin, std::span<const T> in) {
    write_rows(begin, in.data(), static_cast<std::int64_t>(in.size()), element_type<T>());
  }
  /// The same rows in the dataset's own type, little-endian.
  void read_bytes(std::int64_t begin, std::span<std::byte> out) const;
  void write_bytes(std::int64_t begin, std::span<const std::byte> in);
  /// The whole dataset; Error(usage) when it has more than `limit` elements.
  template <class T>
  std::vector<T> read_all(std::int64_t limit) const {
    require_at_most(limit);
    std::vector<T> values(static_cast<std::size_t>(size()));
    read_rows(0, std::span<T>(values));
    return values;
  }
  /// Strings of fixed or variable length, of a one-dimensional dataset.
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

/// A virtual dataset: each box (hyperslab) of it is a run of elements, in row-major order, of a one-dimensional dataset
/// with the same path in another file.
struct VirtualDataset {
  struct Part {
    std::string file;                         ///< name of the source file, in the same folder
    std::vector<std::int64_t> start, extent;  ///< the box
    std::int64_t source_begin = 0;            ///< first element in the source
    bool operator==(const Part&) const = default;
  };
  std::vector<std::int64_t> shape;
  ElementType type = f32;
  std::vector<Part> parts;
};

enum class Access : std::uint8_t {
  read,    ///< an existing file, checked by io/hdf5_guard
  update,  ///< an existing file, to be changed
  create,  ///< a new file; replaces an existing one
};

class File : public Object {
 public:
  /// `damaged`: the exit code of errors for a damaged file (truncation, checksums, wrong structures).
  static File open(const std::string& path, Access access, ExitCode damaged = ExitCode::corrupt);

  const std::string& path() const { return path_; }

  /// Paths are "/a/b" or "a/b".
  bool exists(std::string_view path) const;
  bool is_dataset(std::string_view path) const;
  std::vector<std::string> list(std::string_view path = "/") const;  ///< names in a group, sorted
  /// Where the object is in the file: the same for two paths to one object.
  std::uint64_t address(std::string_view path) const;
  Dataset dataset(std::string_view path) const;
  Object group(std::string_view path) const;
  /// Both create missing parent groups.
  Dataset create_dataset(std::string_view path, const DatasetOptions& options);
  Object create_group(std::string_view path);
  void remove(std::string_view path);
  /// Elements without a part, and elements whose source file is missing, read as NaN.
  void create_virtual(std::string_view path, const VirtualDataset& dataset);
  /// The parts of a virtual dataset. Opens no source file; the caller must check the parts. Throws Error(usage) for
  /// other datasets, for more than `most_parts` parts, and for parts that are not boxes of floating-point numbers.
  VirtualDataset virtual_dataset(std::string_view path, std::int64_t most_parts) const;
  template <class T>
  Dataset write(std::string_view path, std::vector<std::int64_t> shape, std::span<const T> values) {
    Dataset dataset = create_dataset(path, {.shape = std::move(shape), .type = element_type<T>()});
    dataset.write_rows(0, values);
    return dataset;
  }

  void flush();
  /// Closes the file and throws Error(io) if that fails, which a destructor cannot. All objects of the file must be
  /// destroyed before.
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
