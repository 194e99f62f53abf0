#pragma once

#include <fmt/format.h>
#include <zlib.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/tensors/tensor_type.hpp"

/// Files as torch.save writes them, byte by byte, so that tests can also write what torch never would.
namespace causeway::testing {

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

/// The opcodes of a pickle as text.
namespace pickled {
inline std::string text(std::string_view value) { return fmt::format("X{}{}", little_endian(value.size(), 4), value); }
inline std::string integer(std::int64_t value) {
  if (value >= 0 && value < 256) return fmt::format("K{}", static_cast<char>(value));
  return fmt::format("\x8a\x08{}", little_endian(static_cast<std::uint64_t>(value), 8));
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string all = "(";
  for (const std::string& item : items) all += item;
  return all + "t";
}
inline std::string integers(std::span<const std::int64_t> values) {
  std::vector<std::string> items;
  for (const std::int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string global(std::string_view module, std::string_view name) {
  return fmt::format("c{}\n{}\n", module, name);
}
inline std::string call(const std::string& function, const std::string& arguments) {
  return function + arguments + "R";
}
inline std::string dictionary(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string all = "}(";
  for (const auto& [key, value] : items) all += text(key) + value;
  return all + "u";
}
inline std::string whole(const std::string& value) { return fmt::format("\x80\x02{}.", value); }
}  // namespace pickled

struct ZipMember {
  std::string name, bytes;
};

struct ZipForm {
  bool zip64 = false;                   ///< sizes and offsets in ZIP64 records, as for large archives
  std::string padding = "FBpadding";    ///< extra field of local headers
  std::uint16_t method = 0, flags = 0;  ///< of every member
  bool checksums = true;
};

inline std::string zip_archive(std::span<const ZipMember> members, const ZipForm& form = {}) {
  std::string archive, directory;
  for (const ZipMember& member : members) {
    const std::uint64_t offset = archive.size(), bytes = member.bytes.size();
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(member.bytes.data()), static_cast<uInt>(bytes));
    const std::string kind = little_endian(20, 2) + little_endian(form.flags, 2) + little_endian(form.method, 2) +
                             little_endian(0, 4) + little_endian(form.checksums ? crc : 0, 4);
    archive += "PK\x03\x04" + std::string(22, '\0') + little_endian(member.name.size(), 2) +
               little_endian(form.padding.size(), 2) + member.name + form.padding + member.bytes;
    const std::string extra = form.zip64 ? little_endian(1, 2) + little_endian(24, 2) + little_endian(bytes, 8) +
                                               little_endian(bytes, 8) + little_endian(offset, 8)
                                         : "";
    const std::uint64_t stored = form.zip64 ? 0xffffffff : bytes;
    directory += "PK\x01\x02" + little_endian(20, 2) + kind + little_endian(stored, 4) + little_endian(stored, 4) +
                 little_endian(member.name.size(), 2) + little_endian(extra.size(), 2) + std::string(10, '\0') +
                 little_endian(form.zip64 ? 0xffffffff : offset, 4) + member.name + extra;
  }
  const std::uint64_t begin = archive.size(), count = members.size();
  archive += directory;
  if (form.zip64) {
    const std::uint64_t end64 = archive.size();
    archive += "PK\x06\x06" + little_endian(44, 8) + std::string(12, '\0') + little_endian(count, 8) +
               little_endian(count, 8) + little_endian(directory.size(), 8) + little_endian(begin, 8);
    archive += "PK\x06\x07" + little_endian(0, 4) + little_endian(end64, 8) + little_endian(1, 4);
  }
  const auto small = [&](std::uint64_t value, int bytes) {
    return form.zip64 ? std::string(static_cast<std::size_t>(bytes), '\xff') : little_endian(value, bytes);
  };
  return archive + "PK\x05\x06" + std::string(4, '\0') + small(count, 2) + small(count, 2) +
         small(directory.size(), 4) + small(begin, 4) + std::string(2, '\0');
}

/// A tensor that is a storage of its own.
struct TorchTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

inline std::string_view storage_class(TensorType type) {
  switch (type) {
    case TensorType::f64:
      return "DoubleStorage";
    case TensorType::f32:
      return "FloatStorage";
    case TensorType::f16:
      return "HalfStorage";
    case TensorType::bf16:
      return "BFloat16Storage";
    default:
      return "LongStorage";
  }
}

/// torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict()).
inline std::string pickled_tensor(std::string_view key, TensorType type, std::int64_t stored, std::int64_t offset,
                                  std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  using namespace pickled;
  const std::string id =
      tuple({text("storage"), global("torch", storage_class(type)), text(key), text("cpu"), integer(stored)}) + "Q";
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              tuple({id, integer(offset), integers(shape), integers(strides), "\x89",
                     call(global("collections", "OrderedDict"), ")")}));
}

inline std::vector<std::int64_t> contiguous_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  return strides;
}

/// The members of an archive with this pickle, and with the storages 0, 1, ….
inline std::vector<ZipMember> torch_members(const std::string& pickle, std::span<const std::string> storages) {
  std::vector<ZipMember> members = {{"model/data.pkl", pickle}, {"model/byteorder", "little"}};
  for (std::size_t n = 0; n < storages.size(); ++n) members.push_back({fmt::format("model/data/{}", n), storages[n]});
  members.push_back({"model/version", "3\n"});
  return members;
}

/// torch.save(state_dict, FILE).
inline std::string torch_archive(std::span<const TorchTensor> tensors, const ZipForm& form = {}) {
  std::vector<std::pair<std::string, std::string>> items;
  std::vector<std::string> storages;
  for (const TorchTensor& tensor : tensors) {
    const auto stored = static_cast<std::int64_t>(tensor.bytes.size()) / size_of(tensor.type);
    items.emplace_back(tensor.name, pickled_tensor(std::to_string(storages.size()), tensor.type, stored, 0,
                                                   tensor.shape, contiguous_strides(tensor.shape)));
    storages.push_back(tensor.bytes);
  }
  return zip_archive(torch_members(pickled::whole(pickled::dictionary(items)), storages), form);
}

}  // namespace causeway::testing
