#include "io/hdf5/types.hpp"

#include <fmt/ranges.h>
#include <hdf5.h>

#include <algorithm>

#include "io/hdf5/check.hpp"

namespace causeway::hdf5 {

static_assert(sizeof(hid_t) == sizeof(std::int64_t));

bool thread_safe() {
  hbool_t safe = false;
  return H5is_library_threadsafe(&safe) >= 0 && safe;
}

void IdTraits::close(type id) noexcept {
  const SilencedErrors silenced;
  H5Idec_ref(id);
}

std::string ElementType::to_string() const {
  switch (kind) {
    case Kind::integer:
      return fmt::format("{}{}", is_signed ? 'i' : 'u', bytes * 8);
    case Kind::floating:
      return fmt::format("f{}", bytes * 8);
    case Kind::bfloat:
      return "bf16";
    case Kind::string:
      return "string";
    case Kind::other:
      return "other";
  }
  return "other";
}

namespace {

/// A little-endian floating type of 16 bits. HDF5 1.10 has none of its own.
Id floating_of_two_bytes(std::size_t exponent, std::size_t mantissa, std::size_t bias) {
  const auto checked = [](herr_t result) { check(result, "HDF5", "make a type", ExitCode::internal); };
  Id type(check(H5Tcopy(H5T_IEEE_F32LE), "HDF5", "copy a type", ExitCode::internal));
  checked(H5Tset_fields(type.get(), 15, mantissa, exponent, 0, mantissa));
  checked(H5Tset_size(type.get(), 2));
  checked(H5Tset_ebias(type.get(), bias));
  return type;
}

/// f16 as numpy's float16; bf16 as the upper half of an f32.
std::int64_t small_floating_type(ElementType type) {
  static const Id half = floating_of_two_bytes(5, 10, 15), brain = floating_of_two_bytes(8, 7, 127);
  return type == f16 ? half.get() : brain.get();
}

}  // namespace

std::int64_t memory_type(ElementType type) {
  if (type == f64) return H5T_NATIVE_DOUBLE;
  if (type == f32) return H5T_NATIVE_FLOAT;
  if (type == f16 || type == bf16) return small_floating_type(type);
  if (type == i64) return H5T_NATIVE_INT64;
  if (type == i32) return H5T_NATIVE_INT32;
  if (type == u32) return H5T_NATIVE_UINT32;
  if (type == u16) return H5T_NATIVE_UINT16;
  if (type == u8) return H5T_NATIVE_UINT8;
  fail(ExitCode::internal, "no HDF5 memory type for {}", type.to_string());
}

std::int64_t file_type(ElementType type) {
  if (type == f64) return H5T_IEEE_F64LE;
  if (type == f32) return H5T_IEEE_F32LE;
  if (type == f16 || type == bf16) return small_floating_type(type);
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

ElementType element_type_of(std::int64_t type) {
  using Kind = ElementType::Kind;
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t bytes = H5Tget_size(type);
  if (kind == H5T_STRING)
    return {Kind::string, H5Tis_variable_str(type) > 0 ? 0 : static_cast<int>(std::min<std::size_t>(bytes, INT32_MAX)),
            false};
  if (bytes > 16) return {};
  if (kind == H5T_FLOAT && bytes == 2 && H5Tget_ebias(type) == 127) return bf16;
  if (kind == H5T_FLOAT) return {Kind::floating, static_cast<int>(bytes), true};
  // Enumerations convert like integers: h5py writes booleans as enumerations.
  if (kind == H5T_INTEGER) return {Kind::integer, static_cast<int>(bytes), H5Tget_sign(type) == H5T_SGN_2};
  if (kind == H5T_ENUM) return {Kind::integer, static_cast<int>(bytes), true};
  return {};
}

std::string unpadded(std::string text, std::int64_t type) {
  text.resize(std::min(text.find('\0'), text.size()));
  if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

std::vector<std::string> path_parts(std::string_view path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) parts.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string where_of(const std::string& file, std::string_view path) {
  return fmt::format("{}:/{}", file, fmt::join(path_parts(path), "/"));
}

std::int64_t product(std::span<const std::int64_t> extents, const std::string& where) {
  std::int64_t size = 1;
  for (const std::int64_t extent : extents)
    if (extent < 0 || __builtin_mul_overflow(size, extent, &size))
      fail(ExitCode::usage, "{}: shape [{}] has 2^63 elements or more", where, fmt::join(extents, ", "));
  return size;
}

}  // namespace causeway::hdf5
