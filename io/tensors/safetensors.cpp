#include "io/tensors/safetensors.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "io/file/look_up.hpp"
#include "io/file/untrusted_json.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t size_bytes = 8, largest_header = 100'000'000, largest_index = std::int64_t{64} << 20;

/// The integers of a list of the header; each must be non-negative and fit in 63 bits.
std::optional<std::vector<std::int64_t>> integers(const json& list) {
  if (!list.is_array()) return std::nullopt;
  std::vector<std::int64_t> values;
  for (const json& value : list) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return std::nullopt;
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

TensorType type_called(const json& name, const std::string& where) {
  if (!name.is_string()) fail(ExitCode::corrupt, "{} has a dtype that is not a text", where);
  const auto& text = name.get_ref<const std::string&>();
  for (const auto& [known, type] : safetensors_types)
    if (known == text) return type;
  fail(ExitCode::usage, "{} has dtype '{}', expected a type of integers or F64, F32, F16 or BF16", where,
       text.substr(0, 40));
}

/// A tensor of the header, with the end of its bytes in the data.
struct Entry {
  FileTensor tensor;
  std::int64_t end = 0;
};

Entry entry_of(const std::string& name, const json& object, const std::string& path) {
  const std::string where = fmt::format("{}: tensor '{}'", path, name.substr(0, 200));
  const auto is_form = [&] {
    if (!object.is_object() || object.size() != 3) return false;
    return object.contains("dtype") && object.contains("shape") && object.contains("data_offsets");
  };
  if (!is_form()) fail(ExitCode::corrupt, "{}: its members are not exactly dtype, shape and data_offsets", where);
  Entry entry{.tensor = {.name = name, .type = type_called(object["dtype"], where)}};
  const auto shape = integers(object["shape"]), offsets = integers(object["data_offsets"]);
  if (!shape || !offsets || offsets->size() != 2)
    fail(ExitCode::corrupt, "{}: shape or data_offsets is not a list of numbers that are not negative", where);
  entry.tensor.shape = *shape;
  entry.tensor.strides = row_major_strides(*shape);
  entry.tensor.begin = (*offsets)[0];
  entry.end = (*offsets)[1];
  return entry;
}

void require_texts(const json& metadata, const std::string& path) {
  const bool texts =
      metadata.is_object() && std::ranges::all_of(metadata, [](const json& value) { return value.is_string(); });
  if (!texts) fail(ExitCode::corrupt, "{}: __metadata__ is not an object of texts", path);
}

/// Adds the tensors of one file.
void add_file(TensorFiles& files, const std::string& path) {
  const std::size_t number = files.add_source(ByteSource(path));
  const ByteSource& source = files.source(number);
  std::uint64_t header_bytes = 0;
  if (source.size() < size_bytes)
    fail(ExitCode::corrupt, "{}: has {} bytes, too few for safetensors", path, source.size());
  source.read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > std::uint64_t{largest_header} ||
      static_cast<std::int64_t>(header_bytes) > source.size() - size_bytes)
    fail(ExitCode::corrupt, "{}: its header has {} bytes, expected at most {} in a file of {} bytes", path,
         header_bytes, largest_header, source.size());
  const json header = parse_untrusted_json(source.text(size_bytes, static_cast<std::int64_t>(header_bytes)), path, 4);
  if (!header.is_object()) fail(ExitCode::corrupt, "{}: its header is not a JSON object", path);

  std::vector<Entry> entries;
  for (const auto& [name, object] : header.items())
    if (name == "__metadata__")
      require_texts(object, path);
    else
      entries.push_back(entry_of(name, object, path));
  std::ranges::sort(entries, {}, [](const Entry& entry) { return std::pair(entry.tensor.begin, entry.end); });
  const std::int64_t data = size_bytes + static_cast<std::int64_t>(header_bytes);
  std::int64_t covered = 0;
  for (Entry& entry : entries) {
    if (entry.tensor.begin != covered)
      fail(ExitCode::corrupt, "{}: tensor '{}' begins at byte {} of the data, expected {}: there is {}", path,
           entry.tensor.name, entry.tensor.begin, covered, entry.tensor.begin > covered ? "a gap" : "an overlap");
    if (entry.end < covered || entry.end > source.size() - data)
      fail(ExitCode::corrupt, "{}: tensor '{}' ends at byte {} of the data, expected {} to {}", path, entry.tensor.name,
           entry.end, covered, source.size() - data);
    covered = entry.end;
    entry.tensor.source = number;
    entry.tensor.begin += data;
    files.add(std::move(entry.tensor));
    const FileTensor& added = files.tensors().back();
    const std::int64_t bytes = data + entry.end - added.begin;
    if (added.bytes() != bytes)
      fail(ExitCode::corrupt, "{} has {} bytes, expected {} for {} [{}]", files.where(added), bytes, added.bytes(),
           name_of(added.type), fmt::join(added.shape, ", "));
  }
  if (covered != source.size() - data)
    fail(ExitCode::corrupt, "{}: has {} bytes after the last tensor's end", path, source.size() - data - covered);
}

/// Adds the tensors of the files that an index names, which must have exactly the tensors that it assigns to them.
void add_index(TensorFiles& files, const fs::path& folder) {
  const std::string path = (folder / safetensors_index_file).string();
  const json index = read_json_file(path, largest_index);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail(ExitCode::corrupt, "{}: has no object weight_map", path);
  const json& map = index["weight_map"];
  std::set<std::string> names;
  for (const auto& [tensor, file] : map.items()) {
    if (!file.is_string()) fail(ExitCode::corrupt, "{}: the file of '{}' is not a text", path, tensor.substr(0, 200));
    const auto& name = file.get_ref<const std::string&>();
    if (name.empty() || name == "." || name == ".." || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos)
      fail(ExitCode::corrupt, "{}: '{}' is in '{}', expected the name of a file beside the index", path,
           tensor.substr(0, 200), name.substr(0, 200));
    names.insert(name);
  }
  for (const std::string& name : names) {
    if (!is_there((folder / name).string())) fail(ExitCode::corrupt, "{}: names {}, which is missing", path, name);
    const std::size_t before = files.tensors().size();
    add_file(files, (folder / name).string());
    for (std::size_t t = before; t < files.tensors().size(); ++t) {
      const FileTensor& tensor = files.tensors()[t];
      if (!map.contains(tensor.name) || map[tensor.name] != name)
        fail(ExitCode::corrupt, "{} is not what {} says about it", files.where(tensor), safetensors_index_file);
    }
  }
  for (const auto& [tensor, file] : map.items())
    if (!files.find(tensor))
      fail(ExitCode::corrupt, "{}: tensor '{}' is missing in {}", path, tensor.substr(0, 200),
           file.get_ref<const std::string&>());
}

}  // namespace

bool has_safetensors(const std::string& folder) {
  return is_there((fs::path(folder) / safetensors_file).string()) ||
         is_there((fs::path(folder) / safetensors_index_file).string());
}

TensorFiles read_safetensors(const std::string& path) {
  TensorFiles files;
  if (kind_of(path) != fs::file_type::directory) {
    add_file(files, path);
    return files;
  }
  const fs::path folder = path;
  const bool whole = is_there((folder / safetensors_file).string()),
             sharded = is_there((folder / safetensors_index_file).string());
  require(whole || sharded, "{}: has neither {} nor {}", path, safetensors_file, safetensors_index_file);
  require(!whole || !sharded, "{}: has both {} and {}, expected one of them", path, safetensors_file,
          safetensors_index_file);
  if (sharded)
    add_index(files, folder);
  else
    add_file(files, (folder / safetensors_file).string());
  return files;
}

}  // namespace causeway
