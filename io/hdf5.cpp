#include "io/hdf5.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "io/hdf5_check.hpp"
#include "io/hdf5_strings.hpp"

namespace causeway::hdf5 {
namespace {

static_assert(sizeof(hid_t) == sizeof(std::int64_t));

/// A chunk is decompressed whole, so its size is memory taken on the file's word.
constexpr std::int64_t largest_chunk = std::int64_t{256} << 20;
constexpr std::int64_t longest_fixed_string = std::int64_t{1} << 20;
/// Deflate makes at most 1032 bytes of one, so a dataset that claims much more than it stores lies; small ones may be unwritten.
constexpr std::int64_t most_inflation = 1100, always_plausible = std::int64_t{64} << 20;

hid_t memory_type(ElementType type) {
  if (type == f64) return H5T_NATIVE_DOUBLE;
  if (type == f32) return H5T_NATIVE_FLOAT;
  if (type == i64) return H5T_NATIVE_INT64;
  if (type == i32) return H5T_NATIVE_INT32;
  if (type == u32) return H5T_NATIVE_UINT32;
  if (type == u16) return H5T_NATIVE_UINT16;
  if (type == u8) return H5T_NATIVE_UINT8;
  fail(ExitCode::internal, "no HDF5 memory type for {}", type.to_string());
}

/// Little-endian whatever the machine, so that the same data is the same file.
hid_t file_type(ElementType type) {
  if (type == f64) return H5T_IEEE_F64LE;
  if (type == f32) return H5T_IEEE_F32LE;
  if (type == i64) return H5T_STD_I64LE;
  if (type == i32) return H5T_STD_I32LE;
  if (type == u32) return H5T_STD_U32LE;
  if (type == u16) return H5T_STD_U16LE;
  if (type == u8) return H5T_STD_U8LE;
  fail(ExitCode::internal, "no HDF5 file type for {}", type.to_string());
}

Id string_type() {
  Id type(check(H5Tcopy(H5T_C_S1), "HDF5", "copy a type", ExitCode::internal));
  check(H5Tset_size(type.get(), H5T_VARIABLE), "HDF5", "make a string type", ExitCode::internal);
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "HDF5", "make a string type", ExitCode::internal);
  return type;
}

ElementType element_type_of(hid_t type) {
  using Kind = ElementType::Kind;
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t bytes = H5Tget_size(type);
  if (kind == H5T_STRING) return {Kind::string, H5Tis_variable_str(type) > 0 ? 0 : static_cast<int>(std::min<std::size_t>(bytes, INT32_MAX)), false};
  if (bytes > 16) return {};
  if (kind == H5T_FLOAT) return {Kind::floating, static_cast<int>(bytes), true};
  // Enumerations convert like their integers: h5py writes booleans so.
  if (kind == H5T_INTEGER) return {Kind::integer, static_cast<int>(bytes), H5Tget_sign(type) == H5T_SGN_2};
  if (kind == H5T_ENUM) return {Kind::integer, static_cast<int>(bytes), true};
  return {};
}

/// A string of fixed length without its padding.
std::string unpadded(std::string text, hid_t type) {
  text.resize(std::min(text.find('\0'), text.size()));
  if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) parts.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string place_of(const std::string& file, std::string_view path) { return fmt::format("{}:/{}", file, fmt::join(parts_of(path), "/")); }

std::int64_t product(std::span<const std::int64_t> extents, const std::string& where) {
  std::int64_t size = 1;
  for (const std::int64_t extent : extents)
    if (extent < 0 || __builtin_mul_overflow(size, extent, &size))
      fail(ExitCode::usage, "{}: shape [{}] has more elements than 64 bits count", where, fmt::join(extents, ", "));
  return size;
}

/// Refuses what would make reading a dataset read other files or run foreign code, and chunks without bound.
void check_storage(hid_t dataset, const std::string& where, ExitCode damaged) {
  const Id creation(check(H5Dget_create_plist(dataset), where, "read how it is stored", damaged));
  const H5D_layout_t layout = H5Pget_layout(creation.get());
  require(layout == H5D_CONTIGUOUS || layout == H5D_COMPACT || layout == H5D_CHUNKED, "{}: is a virtual dataset, expected data in this file", where);
  require(H5Pget_external_count(creation.get()) <= 0, "{}: keeps its data in another file, expected it in this one", where);
  if (layout != H5D_CHUNKED) return;
  const int filters = check(H5Pget_nfilters(creation.get()), where, "count its filters", damaged);
  for (int index = 0; index < filters; ++index) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(creation.get(), static_cast<unsigned>(index), &flags, &values, nullptr, 0, nullptr, &config);
    require(filter >= H5Z_FILTER_DEFLATE && filter <= H5Z_FILTER_SCALEOFFSET, "{}: is compressed by filter {}, expected one of HDF5's own", where, static_cast<int>(filter));
  }
  hsize_t extents[H5S_MAX_RANK] = {};
  const int rank = check(H5Pget_chunk(creation.get(), H5S_MAX_RANK, extents), where, "read its chunk shape", damaged);
  const Id type(check(H5Dget_type(dataset), where, "read its type", damaged));
  std::vector<std::int64_t> chunk(extents, extents + rank);
  chunk.push_back(static_cast<std::int64_t>(H5Tget_size(type.get())));
  const std::int64_t bytes = product(chunk, where);
  require(bytes <= largest_chunk, "{}: a chunk has {} bytes, expected at most {}", where, bytes, largest_chunk);
}

/// Refuses a shape that the bytes in the file cannot be, so that a reader may take memory on the shape's word.
void check_size(const Dataset& dataset, const std::string& path) {
  const Id type(H5Dget_type(dataset.id())), creation(H5Dget_create_plist(dataset.id()));
  const std::int64_t size = dataset.size(), element = static_cast<std::int64_t>(H5Tget_size(type.get()));
  require(element > 0, "{}: holds a type without a size", dataset.where());
  std::error_code error;
  const auto file_size = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  if (error) fail(ExitCode::io, "{}: cannot read its size: {}", path, error.message());
  const std::int64_t stored = std::min(static_cast<std::int64_t>(H5Dget_storage_size(dataset.id())), file_size);
  const std::int64_t plausible = always_plausible + stored * (H5Pget_layout(creation.get()) == H5D_CHUNKED ? most_inflation : 1);
  require(size <= plausible / element, "{}: claims {} values but stores {} bytes", dataset.where(), size, stored);
}

/// The name of the file an object lives in.
std::string file_of(hid_t object, const std::string& where) {
  const ssize_t length = check(H5Fget_name(object, nullptr, 0), where, "look up its file's name", ExitCode::internal);
  std::string name(static_cast<std::size_t>(length) + 1, '\0');
  check(H5Fget_name(object, name.data(), name.size()), where, "look up its file's name", ExitCode::internal);
  name.pop_back();
  return name;
}

}  // namespace

bool thread_safe() {
  hbool_t safe = false;
  return H5is_library_threadsafe(&safe) >= 0 && safe;
}

void IdTraits::close(type id) noexcept {
  const Quiet quiet;
  H5Idec_ref(id);
}

std::string ElementType::to_string() const {
  switch (kind) {
    case Kind::integer: return fmt::format("{}{}", is_signed ? 'i' : 'u', bytes * 8);
    case Kind::floating: return fmt::format("f{}", bytes * 8);
    case Kind::string: return "string";
    case Kind::other: return "other";
  }
  return "other";
}

bool Object::has_attribute(const std::string& name) const {
  const Quiet quiet;
  return check(H5Aexists(id(), name.c_str()), where_, "look for attribute " + name, damaged_) > 0;
}

std::vector<std::string> Object::attribute_names() const {
  const Quiet quiet;
  std::vector<std::string> names;
  hsize_t position = 0;
  const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Aiterate2(id(), H5_INDEX_NAME, H5_ITER_INC, &position, collect, &names), where_, "list its attributes", damaged_);
  return names;
}

Value Object::attribute(const std::string& name) const {
  const Quiet quiet;
  const std::string place = fmt::format("{}: attribute {}", where_, name);
  require(has_attribute(name), "{} is missing", place);
  const Id attribute(check(H5Aopen(id(), name.c_str(), H5P_DEFAULT), place, "open", damaged_));
  const Id space(check(H5Aget_space(attribute.get()), place, "read its shape", damaged_));
  require(H5Sget_simple_extent_npoints(space.get()) == 1, "{} has {} values, expected one", place, H5Sget_simple_extent_npoints(space.get()));
  const Id type(check(H5Aget_type(attribute.get()), place, "read its type", damaged_));
  const ElementType found = element_type_of(type.get());
  switch (found.kind) {
    case ElementType::Kind::integer: {
      std::int64_t value = 0;
      check(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), place, "read", damaged_);
      return value;
    }
    case ElementType::Kind::floating: {
      double value = 0;
      check(H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value), place, "read", damaged_);
      return value;
    }
    case ElementType::Kind::string: {
      if (found.bytes > 0) {
        require(found.bytes <= longest_fixed_string, "{} is a string of {} bytes, expected at most {}", place, found.bytes, longest_fixed_string);
        std::string text(static_cast<std::size_t>(found.bytes), '\0');
        check(H5Aread(attribute.get(), type.get(), text.data()), place, "read", damaged_);
        return unpadded(std::move(text), type.get());
      }
      check_attribute_string(file_of(id(), place), name, place, damaged_);
      char* text = nullptr;
      check(H5Aread(attribute.get(), type.get(), &text), place, "read", damaged_);
      std::string value = text == nullptr ? "" : text;
      H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, &text);
      return value;
    }
    case ElementType::Kind::other: break;
  }
  fail(ExitCode::usage, "{} is neither a number nor a string", place);
}

std::int64_t Object::integer_attribute(const std::string& name) const {
  const Value value = attribute(name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  const auto* number = std::get_if<double>(&value);
  require(number != nullptr && std::nearbyint(*number) == *number && std::abs(*number) < 0x1p53, "{}: attribute {} is not an integer", where_, name);
  return static_cast<std::int64_t>(*number);
}

double Object::number_attribute(const std::string& name) const {
  const Value value = attribute(name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  require(std::holds_alternative<double>(value), "{}: attribute {} is a string, expected a number", where_, name);
  return std::get<double>(value);
}

std::string Object::string_attribute(const std::string& name) const {
  const Value value = attribute(name);
  require(std::holds_alternative<std::string>(value), "{}: attribute {} is a number, expected a string", where_, name);
  return std::get<std::string>(value);
}

void Object::set_attribute(const std::string& name, const Value& value) {
  const Quiet quiet;
  const std::string place = fmt::format("{}: attribute {}", where_, name);
  if (has_attribute(name)) check(H5Adelete(id(), name.c_str()), place, "replace", ExitCode::io);
  const Id space(check(H5Screate(H5S_SCALAR), place, "create", ExitCode::internal));
  const auto create = [&](hid_t type) { return Id(check(H5Acreate2(id(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), place, "create", ExitCode::io)); };
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    check(H5Awrite(create(H5T_STD_I64LE).get(), H5T_NATIVE_INT64, integer), place, "write", ExitCode::io);
  } else if (const auto* number = std::get_if<double>(&value)) {
    check(H5Awrite(create(H5T_IEEE_F64LE).get(), H5T_NATIVE_DOUBLE, number), place, "write", ExitCode::io);
  } else {
    const Id type = string_type();  // of variable length, which h5py shows as str and not as bytes
    const char* text = std::get<std::string>(value).c_str();
    check(H5Awrite(create(type.get()).get(), type.get(), &text), place, "write", ExitCode::io);
  }
}

std::vector<std::int64_t> Dataset::shape() const {
  const Quiet quiet;
  const Id space(check(H5Dget_space(id()), where_, "read its shape", damaged_));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), where_, "read its shape", damaged_);
  require(H5Sget_simple_extent_type(space.get()) != H5S_NULL, "{}: has no values", where_);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), where_, "read its shape", damaged_);
  std::vector<std::int64_t> shape(extents.begin(), extents.end());
  product(shape, where_);
  return shape;
}

std::int64_t Dataset::rows() const {
  const auto extents = shape();
  return extents.empty() ? 1 : extents.front();
}

std::int64_t Dataset::row_size() const {
  const auto extents = shape();
  return extents.empty() ? 1 : product(std::span(extents).subspan(1), where_);
}

ElementType Dataset::type() const {
  const Quiet quiet;
  const Id type(check(H5Dget_type(id()), where_, "read its type", damaged_));
  return element_type_of(type.get());
}

std::optional<std::int64_t> Dataset::file_offset() const {
  const Quiet quiet;
  const haddr_t offset = H5Dget_offset(id());
  if (offset == HADDR_UNDEF) return std::nullopt;
  return static_cast<std::int64_t>(offset);
}

void Dataset::extend(std::int64_t rows) {
  const Quiet quiet;
  auto extents = shape();
  ensure(!extents.empty(), "{}: a scalar cannot grow", where_);
  extents.front() = rows;
  const std::vector<hsize_t> wanted(extents.begin(), extents.end());
  check(H5Dset_extent(id(), wanted.data()), where_, "make room", ExitCode::io);
}

void Dataset::require_at_most(std::int64_t limit) const {
  require(size() <= limit, "{}: has {} values, expected at most {}", where_, size(), limit);
}

/// Moves `count` elements, whole rows from `begin`, between the file and one of `out` and `in`.
void Dataset::transfer(std::int64_t begin, std::int64_t count, std::int64_t memory, void* out, const void* in) const {
  const auto extents = shape();
  const std::int64_t row = row_size();
  if (count == 0) return;
  ensure(row > 0 && count % row == 0, "{}: {} values are no whole rows of {}", where_, count, row);
  const std::int64_t rows = count / row, all_rows = extents.empty() ? 1 : extents.front();
  require(begin >= 0 && rows <= all_rows && begin <= all_rows - rows, "{}: has {} rows, expected {} from row {} on", where_, all_rows, rows, begin);
  const Id file_space(check(H5Dget_space(id()), where_, "read its shape", damaged_));
  if (!extents.empty()) {
    std::vector<hsize_t> start(extents.size(), 0), length(extents.begin(), extents.end());
    start.front() = static_cast<hsize_t>(begin);
    length.front() = static_cast<hsize_t>(rows);
    check(H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, length.data(), nullptr), where_, "select rows", ExitCode::internal);
  }
  const hsize_t flat = static_cast<hsize_t>(count);
  const Id memory_space(check(H5Screate_simple(1, &flat, nullptr), where_, "select memory", ExitCode::internal));
  if (out != nullptr)
    check(H5Dread(id(), memory, memory_space.get(), file_space.get(), H5P_DEFAULT, out), where_, "read", damaged_);
  else
    check(H5Dwrite(id(), memory, memory_space.get(), file_space.get(), H5P_DEFAULT, in), where_, "write", ExitCode::io);
}

void Dataset::read_rows(std::int64_t begin, void* out, std::int64_t count, ElementType wanted) const {
  const Quiet quiet;
  using Kind = ElementType::Kind;
  const ElementType found = type();
  const bool readable = found.kind == wanted.kind || (found.kind == Kind::integer && wanted.kind == Kind::floating);
  require(readable, "{}: holds {}, expected {}", where_, found.to_string(), wanted.to_string());
  transfer(begin, count, memory_type(wanted), out, nullptr);
}

void Dataset::write_rows(std::int64_t begin, const void* in, std::int64_t count, ElementType given) {
  const Quiet quiet;
  transfer(begin, count, memory_type(given), nullptr, in);
}

std::vector<std::string> Dataset::read_strings(std::int64_t begin, std::int64_t count) const {
  const Quiet quiet;
  const ElementType found = type();
  require(found.kind == ElementType::Kind::string && shape().size() == 1, "{}: holds {} of rank {}, expected a list of strings", where_, found.to_string(), shape().size());
  require(count >= 0 && count <= rows(), "{}: has {} strings, expected {}", where_, rows(), count);
  const Id stored(check(H5Dget_type(id()), where_, "read its type", damaged_));
  std::vector<std::string> strings;
  if (found.bytes > 0) {
    require(found.bytes <= longest_fixed_string, "{}: strings of {} bytes, expected at most {}", where_, found.bytes, longest_fixed_string);
    std::string one(static_cast<std::size_t>(found.bytes), '\0');
    for (std::int64_t index = begin; index < begin + count; ++index) {
      transfer(index, 1, stored.get(), one.data(), nullptr);
      strings.push_back(unpadded(one, stored.get()));
    }
    return strings;
  }
  std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
  const hsize_t flat = static_cast<hsize_t>(count);
  const Id memory_space(check(H5Screate_simple(1, &flat, nullptr), where_, "select memory", ExitCode::internal));
  const auto reclaim = [&] { H5Dvlen_reclaim(stored.get(), memory_space.get(), H5P_DEFAULT, pointers.data()); };
  try {
    transfer(begin, count, stored.get(), pointers.data(), nullptr);
  } catch (...) {
    reclaim();
    throw;
  }
  for (const char* pointer : pointers) strings.emplace_back(pointer == nullptr ? "" : pointer);
  reclaim();
  return strings;
}

void Dataset::write_strings(std::int64_t begin, std::span<const std::string> in) {
  const Quiet quiet;
  std::vector<const char*> pointers;
  for (const std::string& text : in) pointers.push_back(text.c_str());
  transfer(begin, static_cast<std::int64_t>(pointers.size()), string_type().get(), nullptr, pointers.data());
}

File File::open(const std::string& path, Access access, ExitCode damaged) {
  const Quiet quiet;
  std::error_code ignored;
  Id id;
  if (access == Access::create) {
    const Id creation(check(H5Pcreate(H5P_FILE_CREATE), path, "create", ExitCode::internal));
    check(H5Pset_obj_track_times(creation.get(), false), path, "create", ExitCode::internal);
    // This version of the format has checksums on its own structures, so that damage to them is noticed too.
    const Id format(check(H5Pcreate(H5P_FILE_ACCESS), path, "create", ExitCode::internal));
    check(H5Pset_libver_bounds(format.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), path, "create", ExitCode::internal);
    id = Id(check(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), format.get()), path, "create", ExitCode::io));
  } else {
    require(std::filesystem::exists(path, ignored), "{}: no such file", path);
    require(std::filesystem::is_regular_file(path, ignored), "{}: is not a regular file", path);
    const htri_t recognised = H5Fis_hdf5(path.c_str());
    check(recognised, path, "read", ExitCode::io);
    require(recognised > 0, "{}: is not an HDF5 file", path);
    check_string_heaps(path, damaged);
    id = Id(check(H5Fopen(path.c_str(), access == Access::read ? H5F_ACC_RDONLY : H5F_ACC_RDWR, H5P_DEFAULT), path, "open", damaged));
  }
  File file(std::move(id), path, damaged);
  file.path_ = path;
  file.access_ = access;
  file.where_ = path + ":/";
  return file;
}

bool File::exists(std::string_view path) const {
  const Quiet quiet;
  const std::vector<std::string> parts = parts_of(path);
  std::string so_far;
  for (const std::string& part : parts) {
    if (!so_far.empty() && H5Iget_type(open_checked(so_far).get()) != H5I_GROUP) return false;
    so_far += "/" + part;
    const std::string place = path_ + ":" + so_far;
    if (check(H5Lexists(id(), so_far.c_str(), H5P_DEFAULT), place, "look it up", damaged_) == 0) return false;
    H5L_info_t link{};
    check(H5Lget_info(id(), so_far.c_str(), &link, H5P_DEFAULT), place, "look it up", damaged_);
    require(link.type == H5L_TYPE_HARD, "{}: is a link to elsewhere, expected the object itself", place);
  }
  return true;
}

/// Opens what exists() has looked at part by part.
Id File::open_checked(const std::string& path) const {
  return Id(check(H5Oopen(id(), path.c_str(), H5P_DEFAULT), path_ + ":" + path, "open", damaged_));
}

Id File::open_object(std::string_view path) const {
  const std::string place = place_of(path_, path);
  require(exists(path), "{}: is missing", place);
  return open_checked(place.substr(path_.size() + 1));
}

bool File::is_dataset(std::string_view path) const {
  const Quiet quiet;
  return exists(path) && H5Iget_type(open_object(path).get()) == H5I_DATASET;
}

std::vector<std::string> File::list(std::string_view path) const {
  const Quiet quiet;
  const Object folder = group(path);
  std::vector<std::string> names;
  hsize_t position = 0;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Literate(folder.id(), H5_INDEX_NAME, H5_ITER_INC, &position, collect, &names), folder.where(), "list", damaged_);
  return names;
}

Dataset File::dataset(std::string_view path) const {
  const Quiet quiet;
  Id found = open_object(path);
  const std::string place = place_of(path_, path);
  require(H5Iget_type(found.get()) == H5I_DATASET, "{}: is not a dataset", place);
  check_storage(found.get(), place, damaged_);
  Dataset dataset(std::move(found), place, damaged_);
  if (access_ == Access::read) check_size(dataset, path_);
  return dataset;
}

Object File::group(std::string_view path) const {
  const Quiet quiet;
  Id found = open_object(path);
  const std::string place = place_of(path_, path);
  require(H5Iget_type(found.get()) == H5I_GROUP, "{}: is not a group", place);
  return Object(std::move(found), place, damaged_);
}

/// Creates the groups that are missing on the way to `path`. HDF5 would do so itself, but would note the time in them.
void File::create_parents(std::string_view path) {
  const std::vector<std::string> parts = parts_of(path);
  std::string so_far;
  for (std::size_t p = 0; p + 1 < parts.size(); ++p) {
    so_far += "/" + parts[p];
    if (!exists(so_far)) create_one_group(so_far);
  }
}

Id File::create_one_group(const std::string& path) {
  const std::string place = path_ + ":" + path;
  const Id creation(check(H5Pcreate(H5P_GROUP_CREATE), place, "create", ExitCode::internal));
  check(H5Pset_obj_track_times(creation.get(), false), place, "create", ExitCode::internal);
  return Id(check(H5Gcreate2(id(), path.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), place, "create", ExitCode::io));
}

Dataset File::create_dataset(std::string_view path, const DatasetOptions& options) {
  const Quiet quiet;
  create_parents(path);
  const std::string place = place_of(path_, path);
  const bool chunked = options.chunk_rows > 0;
  ensure(chunked || (!options.shuffle && options.deflate == 0 && !options.fletcher32), "{}: filters need chunks", place);
  ensure(!(chunked && options.allocate_early), "{}: only a contiguous dataset is allocated early", place);

  const Id creation(check(H5Pcreate(H5P_DATASET_CREATE), place, "create", ExitCode::internal));
  check(H5Pset_obj_track_times(creation.get(), false), place, "create", ExitCode::internal);
  const std::vector<hsize_t> extents(options.shape.begin(), options.shape.end());
  std::vector<hsize_t> largest = extents;
  if (chunked) {
    ensure(!extents.empty(), "{}: a scalar has no chunks", place);
    std::vector<hsize_t> chunk = extents;
    chunk.front() = static_cast<hsize_t>(options.chunk_rows);
    largest.front() = H5S_UNLIMITED;
    check(H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data()), place, "choose chunks", ExitCode::internal);
    if (options.shuffle) check(H5Pset_shuffle(creation.get()), place, "choose filters", ExitCode::internal);
    if (options.deflate > 0) check(H5Pset_deflate(creation.get(), static_cast<unsigned>(options.deflate)), place, "choose filters", ExitCode::internal);
    if (options.fletcher32) check(H5Pset_fletcher32(creation.get()), place, "choose filters", ExitCode::internal);
  }
  if (options.allocate_early) {
    check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), place, "choose its place", ExitCode::internal);
    check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), place, "choose its place", ExitCode::internal);
  }
  const Id space(extents.empty() ? check(H5Screate(H5S_SCALAR), place, "create", ExitCode::internal)
                                 : check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), largest.data()), place, "create", ExitCode::usage));
  const Id text = options.type == string ? string_type() : Id();
  const hid_t stored = text ? text.get() : file_type(options.type);
  Id made(check(H5Dcreate2(id(), place.c_str() + path_.size() + 1, stored, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), place, "create", ExitCode::io));
  return Dataset(std::move(made), place, damaged_);
}

Object File::create_group(std::string_view path) {
  const Quiet quiet;
  create_parents(path);
  const std::string place = place_of(path_, path);
  return Object(create_one_group(place.substr(path_.size() + 1)), place, damaged_);
}

void File::remove(std::string_view path) {
  const Quiet quiet;
  const std::string place = place_of(path_, path);
  check(H5Ldelete(id(), place.c_str() + path_.size() + 1, H5P_DEFAULT), place, "remove", ExitCode::io);
}

void File::flush() {
  const Quiet quiet;
  check(H5Fflush(id(), H5F_SCOPE_LOCAL), path_, "write", ExitCode::io);
}

void File::close() {
  const Quiet quiet;
  if (!id_) return;
  const hid_t file = id();
  check(H5Fflush(file, H5F_SCOPE_LOCAL), path_, "write", ExitCode::io);
  ensure(H5Fget_obj_count(file, H5F_OBJ_ALL) == 1, "{}: closed while its objects are in use", path_);
  check(H5Fclose(id_.release()), path_, "close", ExitCode::io);
}

}  // namespace causeway::hdf5
