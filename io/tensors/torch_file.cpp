#include "io/tensors/torch_file.hpp"

#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "io/tensors/file_parts.hpp"
#include "io/tensors/pickle.hpp"
#include "io/tensors/zip_directory.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view rebuild_parameter = "torch._utils _rebuild_parameter",
                           rebuild_v2 = "torch._utils _rebuild_tensor_v2",
                           rebuild_v3 = "torch._utils _rebuild_tensor_v3";  ///< names the type; untyped storage
constexpr std::int64_t largest_pickle = std::int64_t{16} << 20;

/// A global of the pickle that stands for a type of elements: a storage class, or a dtype.
struct TypeName {
  std::string_view global;
  std::optional<TensorType> type;  ///< nothing: not a type of weights
};
constexpr TypeName storage_types[] = {
    {"torch DoubleStorage", TensorType::f64}, {"torch FloatStorage", TensorType::f32},
    {"torch HalfStorage", TensorType::f16},   {"torch BFloat16Storage", TensorType::bf16},
    {"torch LongStorage", TensorType::i64},   {"torch IntStorage", TensorType::i32},
    {"torch ShortStorage", TensorType::i16},  {"torch CharStorage", TensorType::i8},
    {"torch ByteStorage", TensorType::u8},    {"torch BoolStorage", TensorType::boolean},
    {"torch UntypedStorage", TensorType::u8}, {"torch.storage UntypedStorage", TensorType::u8},
    {"torch ComplexFloatStorage", {}},        {"torch ComplexDoubleStorage", {}},
};
constexpr TypeName element_types[] = {
    {"torch float64", TensorType::f64},   {"torch float32", TensorType::f32}, {"torch float16", TensorType::f16},
    {"torch bfloat16", TensorType::bf16}, {"torch int64", TensorType::i64},   {"torch int32", TensorType::i32},
    {"torch int16", TensorType::i16},     {"torch int8", TensorType::i8},     {"torch uint64", TensorType::u64},
    {"torch uint32", TensorType::u32},    {"torch uint16", TensorType::u16},  {"torch uint8", TensorType::u8},
    {"torch bool", TensorType::boolean},  {"torch float8_e4m3fn", {}},        {"torch float8_e5m2", {}},
};
/// Besides those: what makes tensors, and what a state_dict holds beside them.
constexpr std::string_view other_globals[] = {rebuild_parameter, rebuild_v2, rebuild_v3, "collections OrderedDict",
                                              "torch Size", "torch device", "_io BytesIO",
                                              // How protocol 2 writes the contents of a BytesIO:
                                              "_codecs encode", "__builtin__ bytes"};

std::vector<std::string_view> known_globals() {
  std::vector<std::string_view> all(std::begin(other_globals), std::end(other_globals));
  for (const auto& types : {std::span<const TypeName>(storage_types), std::span<const TypeName>(element_types)})
    for (const TypeName& each : types) all.push_back(each.global);
  return all;
}

/// torch's files before 1.6 start with a pickle of this number, which is after a few bytes of the protocol.
bool is_legacy(const ByteSource& file) {
  constexpr std::string_view magic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  const std::string start = file.text(0, std::min<std::int64_t>(file.size(), 32));
  return start.starts_with('\x80') && start.find(magic) != start.npos;
}

bool is_extra_state(std::string_view name) { return name.ends_with("_extra_state"); }

class TorchReader {
 public:
  explicit TorchReader(ByteSource source) { number_ = files_.add_source(std::move(source)); }

  TensorFiles read() && {
    require(
        !is_legacy(file()),
        "{}: is a file of torch before 1.6 (or was saved with "
        "_use_new_zipfile_serialization=False); save it again: torch.save(torch.load(FILE, weights_only=True), NEW)",
        file().path());
    require(looks_like_zip(file()), "{}: is not a file of torch.save", file().path());
    for (const ZipEntry& entry : read_zip_directory(file())) entries_.emplace(entry.name, entry);
    find_root();
    if (entries_.contains(root_ + "byteorder")) {
      const std::string order = contents("byteorder");
      require(order == "little", "{}: its tensors are {}-endian, expected little-endian", file().path(),
              order == "big" ? "big" : "?");
    }
    const Pickle pickle(contents("data.pkl"), fmt::format("{}:{}data.pkl", file().path(), root_), known_globals());
    add_tensors(state_dict(pickle.root()));
    return std::move(files_);
  }

 private:
  const ByteSource& file() const { return files_.source(number_); }
  template <class... Args>
  [[noreturn]] void damaged(std::string_view tensor, fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::corrupt, "{}: tensor '{}' {}", file().path(), tensor.substr(0, 200),
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void expect(bool holds, std::string_view tensor, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) damaged(tensor, format, std::forward<Args>(args)...);
  }

  /// The folder of the archive's members: "NAME/".
  void find_root() {
    constexpr std::string_view pickle = "/data.pkl";
    for (const auto& [name, entry] : entries_) {
      if (!name.ends_with(pickle) || name.find('/') != name.size() - pickle.size()) continue;
      require(root_.empty(), "{}: has both {}data.pkl and {}", file().path(), root_, name);
      root_ = name.substr(0, name.size() - pickle.size() + 1);
    }
    require(!root_.empty(), "{}: is a ZIP archive without NAME/data.pkl, expected a file of torch.save", file().path());
    require(!entries_.contains(root_ + "constants.pkl"), "{}: is a program of TorchScript, expected a state_dict",
            file().path());
  }

  /// A small member. Its checksum is compared, where the writer computed one.
  std::string contents(const std::string& name) const {
    const ZipEntry& entry = entries_.at(root_ + name);
    require(entry.bytes <= largest_pickle, "{}: {} has {} bytes, expected at most {}", file().path(), entry.name,
            entry.bytes, largest_pickle);
    std::string bytes = file().text(entry.offset, entry.bytes);
    const auto found = ::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
    if (entry.crc32 != 0 && found != entry.crc32)
      fail(ExitCode::corrupt, "{}: {} is damaged: its CRC-32 is {:08x}, expected {:08x}", file().path(), entry.name,
           found, entry.crc32);
    return bytes;
  }

  /// The dictionary of tensors: `top`, or what it has under one of the names that training programs use.
  const PickleValue& state_dict(const PickleValue& top) const {
    constexpr std::string_view wrappers[] = {"module", "model", "state_dict", "model_state_dict"};
    constexpr int most_levels = 4;
    const PickleValue* found = &top;
    const auto inner = [&]() -> const PickleValue* {
      if (!found->is(Kind::dictionary)) return nullptr;
      for (std::size_t n = 0; n + 1 < found->items.size(); n += 2) {
        const PickleValue &key = *found->items[n], &value = *found->items[n + 1];
        if (key.is(Kind::text) && value.is(Kind::dictionary) && std::ranges::count(wrappers, key.text) > 0)
          return &value;
      }
      return nullptr;
    };
    for (int level = 0; level < most_levels; ++level)
      if (const PickleValue* next = inner()) found = next;
    require(found->is(Kind::dictionary), "{}: does not contain a dictionary of tensors", file().path());
    return *found;
  }

  void add_tensors(const PickleValue& dictionary) {
    std::set<std::string_view> names;
    for (std::size_t n = 0; n < dictionary.items.size(); n += 2) {
      const PickleValue &key = *dictionary.items[n], &value = *dictionary.items[n + 1];
      require(key.is(Kind::text), "{}: its dictionary has a key that is not a string, expected names of tensors",
              file().path());
      expect(names.insert(key.text).second, key.text, "is there twice");
      if (is_extra_state(key.text)) continue;
      const bool nested = value.is(Kind::dictionary) || value.is(Kind::list) || value.is(Kind::tuple);
      require(!nested, "{}: '{}' is a container, expected a tensor in a dictionary of tensors", file().path(),
              key.text.substr(0, 200));
      if (const PickleValue* tensor = tensor_call(value, key.text)) add(key.text, *tensor);
    }
    require(!files_.tensors().empty(), "{}: has no tensors", file().path());
  }

  /// The call that makes a tensor, of a parameter too; nothing for another value.
  const PickleValue* tensor_call(const PickleValue& value, std::string_view name) const {
    const PickleValue* call = &value;
    if (call->is_call_of(rebuild_parameter)) {
      expect(!call->items[1]->items.empty(), name, "is damaged: it is a parameter of nothing");
      call = call->items[1]->items[0];
      expect(call->is_call_of(rebuild_v2) || call->is_call_of(rebuild_v3), name, "is damaged: it has no storage");
    }
    return call->is_call_of(rebuild_v2) || call->is_call_of(rebuild_v3) ? call : nullptr;
  }

  std::vector<std::int64_t> integers(const PickleValue& tuple, std::string_view name) const {
    const PickleValue& list =
        tuple.is_call_of("torch Size") && tuple.items[1]->items.size() == 1 ? *tuple.items[1]->items[0] : tuple;
    expect(list.is(Kind::tuple), name, "is damaged: its shape or strides are not a tuple");
    std::vector<std::int64_t> values;
    for (const PickleValue* item : list.items) {
      expect(item->is(Kind::integer), name, "is damaged: its shape or strides are not integers");
      values.push_back(item->integer);
    }
    return values;
  }

  TensorType type_of(const PickleValue& global, std::span<const TypeName> types, std::string_view name) const {
    expect(global.is(Kind::global), name, "is damaged: it has no type");
    const auto found = std::ranges::find(types, global.text, &TypeName::global);
    require(found != types.end() && found->type, "{}: tensor '{}' has elements of '{}', which Causeway does not read",
            file().path(), name.substr(0, 200), global.text);
    return *found->type;
  }

  /// Arguments: storage, offset, shape, strides, requires_grad, hooks, and of v3 the type.
  void add(std::string_view name, const PickleValue& call) {
    const std::vector<const PickleValue*>& arguments = call.items[1]->items;
    const bool v3 = call.is_call_of(rebuild_v3);
    expect(arguments.size() >= (v3 ? 7u : 6u) && arguments[0]->is(Kind::persistent) && arguments[1]->is(Kind::integer),
           name, "is damaged: it is not made of storage, offset, shape and strides");
    const PickleValue& id = *arguments[0]->items[0];
    // ("storage", class, key, device, number of elements)
    expect(id.is(Kind::tuple) && id.items.size() == 5 && id.items[2]->is(Kind::text) && id.items[4]->is(Kind::integer),
           name, "is damaged: it has no storage");
    const TensorType stored = type_of(*id.items[1], storage_types, name);
    FileTensor tensor{.name = std::string(name),
                      .type = v3 ? type_of(*arguments[6], element_types, name) : stored,
                      .shape = integers(*arguments[2], name),
                      .strides = integers(*arguments[3], name),
                      .source = number_};
    const auto entry = entries_.find(fmt::format("{}data/{}", root_, id.items[2]->text));
    expect(entry != entries_.end(), name, "is damaged: its storage is missing in the archive");
    std::int64_t bytes = 0;
    expect(id.items[4]->integer >= 0 && !__builtin_mul_overflow(id.items[4]->integer, size_of(stored), &bytes) &&
               bytes <= entry->second.bytes,
           name, "has a storage of {} elements in {} bytes", id.items[4]->integer, entry->second.bytes);
    place(tensor, arguments[1]->integer, entry->second.offset, bytes);
    // A tensor that is its whole storage has the checksum of the archive's member.
    if (tensor.begin == entry->second.offset && tensor.bytes() == entry->second.bytes)
      tensor.crc32 = entry->second.crc32;
    files_.add(std::move(tensor));
  }

  /// Sets where the tensor begins: `offset` elements after the start of its storage, in which it must lie.
  void place(FileTensor& tensor, std::int64_t offset, std::int64_t storage, std::int64_t bytes) const {
    expect(tensor.shape.size() == tensor.strides.size(), tensor.name, "has {} strides for {} axes",
           tensor.strides.size(), tensor.shape.size());
    const auto negative = [](std::int64_t value) { return value < 0; };
    expect(
        std::ranges::none_of(tensor.shape, negative) && std::ranges::none_of(tensor.strides, negative) && offset >= 0,
        tensor.name, "has a shape, a stride or an offset below 0");
    std::int64_t last = offset;
    bool fits = true;
    std::vector<std::size_t> axes;  // those along which the tensor has more than one element
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
      std::int64_t reach = 0;
      if (tensor.shape[axis] > 1) axes.push_back(axis);
      fits = fits &&
             !__builtin_mul_overflow(std::max<std::int64_t>(tensor.shape[axis] - 1, 0), tensor.strides[axis], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    const bool empty = std::ranges::find(tensor.shape, 0) != tensor.shape.end();
    const std::int64_t elements = bytes / size_of(tensor.type);
    expect(
        empty || (fits && last < elements), tensor.name,
        "has shape [{}] and strides [{}] from element {} on, expected {} elements or fewer: its storage is too small",
        fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "), offset, elements);
    std::ranges::sort(axes, {}, [&](std::size_t axis) { return tensor.strides[axis]; });
    std::int64_t covered = 1;  // by the axes before: with fewer elements between two rows they would overlap
    for (const std::size_t axis : axes) {
      require(empty || tensor.strides[axis] >= covered,
              "{}: tensor '{}' has shape [{}] and strides [{}], so that elements share memory; save a copy of it "
              "(.contiguous())",
              file().path(), tensor.name, fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "));
      covered = empty ? 1 : (tensor.shape[axis] - 1) * tensor.strides[axis] + covered;
    }
    tensor.begin = storage + (empty ? 0 : offset * size_of(tensor.type));
  }

  TensorFiles files_;
  std::size_t number_ = 0;
  std::map<std::string, ZipEntry> entries_;
  std::string root_;
};

}  // namespace

TensorFiles read_torch_file(const std::string& path) { return TorchReader(ByteSource(parts_of_file(path))).read(); }

bool is_torch_file(const std::string& path) {
  const ByteSource file(parts_of_file(path));
  return looks_like_zip(file) || is_legacy(file);
}

}  // namespace causeway
