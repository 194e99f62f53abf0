#include "io/checkpoint/checkpoint_index.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "io/checkpoint/corrupt_errors.hpp"
#include "io/checkpoint/hyperslabs.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {
namespace {

constexpr std::int64_t version = 2, most_shards = std::int64_t{1} << 24;
/// Attributes must be smaller than 64 KiB; a larger configuration is not kept.
constexpr std::int64_t most_config_bytes = 60'000, most_source_texts = 1'000'000;
constexpr std::size_t most_axes = 4;
/// The largest number of boxes (hyperslabs) into which a shard's run of elements is divided.
constexpr std::int64_t most_boxes = 2 * static_cast<std::int64_t>(most_axes) - 1;

/// The mappings that write_index() writes for a tensor with these parts.
std::vector<hdf5::VirtualDataset::Part> mappings_of(const std::vector<std::int64_t>& shape,
                                                    const std::vector<TensorParts::Part>& parts) {
  std::vector<hdf5::VirtualDataset::Part> slabs;
  for (const TensorParts::Part& part : parts) {
    std::int64_t at = 0;
    for (Hyperslab& slab : hyperslabs_of(shape, part.elements)) {
      const std::int64_t size = slab.size();
      slabs.push_back({.file = shard_file(part.shard),
                       .start = std::move(slab.start),
                       .extent = std::move(slab.extent),
                       .source_begin = at});
      at += size;
    }
  }
  return slabs;
}

/// The number of the shard with that file name; nothing for other names.
std::optional<std::int64_t> shard_called(std::string_view name) {
  constexpr std::string_view before = "shard-";
  std::int64_t shard = -1;
  if (name.starts_with(before)) std::from_chars(name.data() + before.size(), name.data() + name.size(), shard);
  if (shard < 0 || shard > most_shards || shard_file(shard) != name) return std::nullopt;
  return shard;
}

constexpr const char *source_extras = "source/extras", *source_types = "source/types";

void write_source(hdf5::File& file, const CheckpointSource& source) {
  {
    hdf5::Object group = file.create_group("source");
    group.set_attribute("format", source.format);
    if (!source.config.empty() && std::ssize(source.config) <= most_config_bytes)
      group.set_attribute("config", source.config);
  }
  for (const auto& [name, texts] : {std::pair(source_extras, &source.extras), {source_types, &source.types}}) {
    if (texts->empty()) continue;
    file.create_dataset(name, {.shape = {std::ssize(*texts)}, .type = hdf5::string}).write_strings(0, *texts);
  }
}

}  // namespace

std::optional<CheckpointSource> read_source(const hdf5::File& index) {
  if (!index.exists("source")) return std::nullopt;
  const hdf5::Object group = index.group("source");
  CheckpointSource source{.format = group.string_attribute("format")};
  if (group.has_attribute("config")) source.config = group.string_attribute("config");
  for (const auto& [name, texts] : {std::pair(source_extras, &source.extras), {source_types, &source.types}}) {
    if (!index.exists(name)) continue;
    const hdf5::Dataset dataset = index.dataset(name);
    require(dataset.rows() <= most_source_texts, "{}: has {} texts, expected at most {}", dataset.where(),
            dataset.rows(), most_source_texts);
    *texts = dataset.read_strings(0, dataset.rows());
  }
  return source;
}

void write_index(const std::string& path, const CheckpointContent& content, std::span<const Range> owned) {
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  file.set_attribute("format", checkpoint_format);
  file.set_attribute("version", version);
  for (const auto& [key, value] : content.attributes) file.set_attribute(key, value);
  {
    hdf5::Object state = file.create_group("state");
    for (const auto& [key, value] : content.state) state.set_attribute(key, value);
  }
  if (content.source) write_source(file, *content.source);
  const std::size_t tensors = content.tensors.size();
  for (std::size_t t = 0; t < tensors; ++t) {
    const CheckpointTensor& tensor = content.tensors[t];
    std::vector<TensorParts::Part> parts;
    std::int64_t covered = 0;
    for (std::size_t rank = 0; rank * tensors < owned.size(); ++rank) {
      const Range range = owned[rank * tensors + t];
      if (range.size() == 0) continue;
      ensure(range.begin == covered, "{}: the ranges of the ranks have a gap or overlap", tensor.name);
      covered = range.end;
      parts.push_back({static_cast<std::int64_t>(rank), range});
    }
    ensure(covered == tensor.shape.size(), "{}: the ranks have {} of {} elements", tensor.name, covered,
           tensor.shape.size());
    const std::vector<std::int64_t> shape = extents_of(tensor.shape);
    file.create_virtual(tensor.name,
                        {.shape = shape, .type = tensor.type_in_file(), .parts = mappings_of(shape, parts)});
  }
  file.close();
  sync_to_disk(path);
}

TensorParts tensor_parts(const hdf5::File& index, const std::string& name, std::int64_t shards) {
  const hdf5::VirtualDataset found =
      usage_errors_as_corrupt([&] { return index.virtual_dataset(name, most_boxes * shards); });
  const std::string where = fmt::format("{}:/{}", index.path(), name);
  const auto whole = std::ranges::all_of(found.shape, [](std::int64_t extent) { return extent > 0; });
  if (found.shape.empty() || found.shape.size() > most_axes || !whole)
    fail(ExitCode::corrupt, "{}: has shape [{}], expected 1 to 4 extents above 0", where, fmt::join(found.shape, ", "));
  std::int64_t size = 1;
  for (const std::int64_t extent : found.shape) size *= extent;

  TensorParts tensor{.shape = found.shape, .type = found.type, .parts = {}};
  std::int64_t covered = 0;
  for (const hdf5::VirtualDataset::Part& slab : found.parts) {
    const std::optional<std::int64_t> shard = shard_called(slab.file);
    if (!shard || *shard >= shards)
      fail(ExitCode::corrupt, "{}: has elements of file '{}', expected {} to {}", where, slab.file, shard_file(0),
           shard_file(shards - 1));
    const std::int64_t shown_size = Hyperslab{.start = {}, .extent = slab.extent}.size();
    if (shown_size > size - covered)
      fail(ExitCode::corrupt, "{}: has more than {} elements, with those of {}", where, size, slab.file);
    if (tensor.parts.empty() || tensor.parts.back().shard != *shard)
      tensor.parts.push_back({*shard, {covered, covered}});
    covered += shown_size;
    tensor.parts.back().elements.end = covered;
  }
  const bool ascending = std::ranges::is_sorted(tensor.parts, std::ranges::less_equal(), &TensorParts::Part::shard);
  if (covered != size || !ascending || found.parts != mappings_of(found.shape, tensor.parts))
    fail(ExitCode::corrupt, "{}: its mappings do not have each of its {} elements once and in order", where, size);
  return tensor;
}

}  // namespace causeway
