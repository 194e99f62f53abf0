#include <hdf5.h>

#include <cmath>

#include "io/file/utf8.hpp"
#include "io/hdf5/check.hpp"
#include "io/hdf5/hdf5.hpp"
#include "io/hdf5/types.hpp"

namespace causeway::hdf5 {

bool Object::has_attribute(const std::string& name) const {
  const SilencedErrors silenced;
  return check(H5Aexists(id(), name.c_str()), where_, "look for attribute " + name, damaged_) > 0;
}

std::vector<std::string> Object::attribute_names() const {
  const SilencedErrors silenced;
  std::vector<std::string> names;
  hsize_t position = 0;
  const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Aiterate2(id(), H5_INDEX_NAME, H5_ITER_INC, &position, collect, &names), where_, "list its attributes",
        damaged_);
  return names;
}

Value Object::attribute(const std::string& name) const {
  const SilencedErrors silenced;
  const std::string where = fmt::format("{}: attribute {}", where_, name);
  require(has_attribute(name), "{} is missing", where);
  const Id attribute(check(H5Aopen(id(), name.c_str(), H5P_DEFAULT), where, "open", damaged_));
  const Id space(check(H5Aget_space(attribute.get()), where, "read its shape", damaged_));
  require(H5Sget_simple_extent_npoints(space.get()) == 1, "{} has {} values, expected one", where,
          H5Sget_simple_extent_npoints(space.get()));
  const Id type(check(H5Aget_type(attribute.get()), where, "read its type", damaged_));
  const ElementType found = element_type_of(type.get());
  switch (found.kind) {
    case ElementType::Kind::integer: {
      std::int64_t value = 0;
      check(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), where, "read", damaged_);
      return value;
    }
    case ElementType::Kind::bfloat:
    case ElementType::Kind::floating: {
      double value = 0;
      check(H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value), where, "read", damaged_);
      return value;
    }
    case ElementType::Kind::string: {
      if (found.bytes > 0) {
        require(found.bytes <= longest_fixed_string, "{} is a string of {} bytes, expected at most {}", where,
                found.bytes, longest_fixed_string);
        std::string text(static_cast<std::size_t>(found.bytes), '\0');
        check(H5Aread(attribute.get(), type.get(), text.data()), where, "read", damaged_);
        return unpadded(std::move(text), type.get());
      }
      char* text = nullptr;
      check(H5Aread(attribute.get(), type.get(), &text), where, "read", damaged_);
      std::string value = text == nullptr ? "" : text;
      H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, &text);
      return value;
    }
    case ElementType::Kind::other:
      break;
  }
  fail(ExitCode::usage, "{} is neither a number nor a string", where);
}

std::int64_t Object::integer_attribute(const std::string& name) const {
  const Value value = attribute(name);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  const auto* number = std::get_if<double>(&value);
  require(number != nullptr && std::nearbyint(*number) == *number && std::abs(*number) < 0x1p53,
          "{}: attribute {} is not an integer", where_, name);
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
  const SilencedErrors silenced;
  const std::string where = fmt::format("{}: attribute {}", where_, name);
  if (has_attribute(name)) check(H5Adelete(id(), name.c_str()), where, "replace", ExitCode::io);
  const Id space(check(H5Screate(H5S_SCALAR), where, "create", ExitCode::internal));
  const auto create = [&](hid_t type) {
    return Id(check(H5Acreate2(id(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), where, "create",
                    ExitCode::io));
  };
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    check(H5Awrite(create(H5T_STD_I64LE).get(), H5T_NATIVE_INT64, integer), where, "write", ExitCode::io);
  } else if (const auto* number = std::get_if<double>(&value)) {
    check(H5Awrite(create(H5T_IEEE_F64LE).get(), H5T_NATIVE_DOUBLE, number), where, "write", ExitCode::io);
  } else {
    const Id type = string_type();  // of variable length, which h5py shows as str and not as bytes
    const std::string utf8 = as_utf8(std::get<std::string>(value));  // paths may be any bytes
    const char* text = utf8.c_str();
    check(H5Awrite(create(type.get()).get(), type.get(), &text), where, "write", ExitCode::io);
  }
}

}  // namespace causeway::hdf5
