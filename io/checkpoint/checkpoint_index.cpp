#include "io/checkpoint/checkpoint_index.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "io/checkpoint/damage.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/checkpoint/tensor_boxes.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {
namespace {

constexpr std::int64_t version = 2, most_shards = std::int64_t{1} << 24;
constexpr std::size_t most_axes = 4;
/// Boxes that one shard's run of elements can be.
constexpr std::int64_t most_boxes = 2 * static_cast<std::int64_t>(most_axes) - 1;

/// How the index shows a tensor of these parts: the one way there is.
std::vector<hdf5::VirtualDataset::Part> shown(const std::vector<std::int64_t>& shape,
                                              const std::vector<TensorParts::Part>& parts) {
  std::vector<hdf5::VirtualDataset::Part> boxes;
  for (const TensorParts::Part& part : parts) {
    std::int64_t at = 0;
    for (Box& box : boxes_of(shape, part.elements)) {
      const std::int64_t size = box.size();
      boxes.push_back({.file = shard_file(part.shard),
                       .start = std::move(box.start),
                       .extent = std::move(box.extent),
                       .source_begin = at});
      at += size;
    }
  }
  return boxes;
}

/// The number of the shard of that name.
std::optional<std::int64_t> shard_called(std::string_view name) {
  constexpr std::string_view before = "shard-";
  std::int64_t shard = -1;
  if (name.starts_with(before)) std::from_chars(name.data() + before.size(), name.data() + name.size(), shard);
  if (shard < 0 || shard > most_shards || shard_file(shard) != name) return std::nullopt;
  return shard;
}

}  // namespace

void write_index(const std::string& path, const CheckpointContent& content, std::span<const Range> owned) {
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  file.set_attribute("format", checkpoint_format);
  file.set_attribute("version", version);
  for (const auto& [key, value] : content.attributes) file.set_attribute(key, value);
  {
    hdf5::Object state = file.create_group("state");
    for (const auto& [key, value] : content.state) state.set_attribute(key, value);
  }
  const std::size_t tensors = content.tensors.size();
  for (std::size_t t = 0; t < tensors; ++t) {
    const CheckpointTensor& tensor = content.tensors[t];
    std::vector<TensorParts::Part> parts;
    std::int64_t covered = 0;
    for (std::size_t rank = 0; rank * tensors < owned.size(); ++rank) {
      const Range range = owned[rank * tensors + t];
      if (range.size() == 0) continue;
      ensure(range.begin == covered, "{}: the ranks' parts do not follow each other", tensor.name);
      covered = range.end;
      parts.push_back({static_cast<std::int64_t>(rank), range});
    }
    ensure(covered == tensor.shape.size(), "{}: the ranks bring {} of {} elements", tensor.name, covered,
           tensor.shape.size());
    const std::vector<std::int64_t> shape = extents_of(tensor.shape);
    file.create_virtual(tensor.name, {.shape = shape, .type = stored_as(tensor.dtype), .parts = shown(shape, parts)});
  }
  file.close();
  sync_to_disk(path);
}

TensorParts tensor_parts(const hdf5::File& index, const std::string& name, std::int64_t shards) {
  const hdf5::VirtualDataset found =
      damage_is_corrupt([&] { return index.virtual_dataset(name, most_boxes * shards); });
  const std::string where = fmt::format("{}:/{}", index.path(), name);
  const auto whole = std::ranges::all_of(found.shape, [](std::int64_t extent) { return extent > 0; });
  if (found.shape.empty() || found.shape.size() > most_axes || !whole)
    fail(ExitCode::corrupt, "{}: has shape [{}], which no tensor has", where, fmt::join(found.shape, ", "));
  std::int64_t size = 1;
  for (const std::int64_t extent : found.shape) size *= extent;

  TensorParts tensor{.shape = found.shape, .type = found.type, .parts = {}};
  std::int64_t covered = 0;
  for (const hdf5::VirtualDataset::Part& box : found.parts) {
    const std::optional<std::int64_t> shard = shard_called(box.file);
    if (!shard || *shard >= shards)
      fail(ExitCode::corrupt, "{}: shows elements of '{}', expected one of {} to {} beside it", where, box.file,
           shard_file(0), shard_file(shards - 1));
    const std::int64_t shown_size = Box{.start = {}, .extent = box.extent}.size();
    if (shown_size > size - covered)
      fail(ExitCode::corrupt, "{}: shows more elements than its {} with those of {}", where, size, box.file);
    if (tensor.parts.empty() || tensor.parts.back().shard != *shard)
      tensor.parts.push_back({*shard, {covered, covered}});
    covered += shown_size;
    tensor.parts.back().elements.end = covered;
  }
  const bool ascending = std::ranges::is_sorted(tensor.parts, std::ranges::less_equal(), &TensorParts::Part::shard);
  if (covered != size || !ascending || found.parts != shown(found.shape, tensor.parts))
    fail(ExitCode::corrupt, "{}: its shards do not show each of its {} elements once and in order", where, size);
  return tensor;
}

}  // namespace causeway
