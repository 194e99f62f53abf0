#include "io/checkpoint/streamed_checkpoint.hpp"

#include <vector>

#include "io/checkpoint/checkpoint_index.hpp"
#include "io/checkpoint/checkpoint_shard.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {
namespace {

/// The first tensor of each shard, and the number of tensors.
std::vector<std::size_t> shard_bounds(const StreamedCheckpoint& checkpoint) {
  std::vector<std::size_t> bounds = {0};
  std::int64_t bytes = 0;
  const auto& tensors = checkpoint.content.tensors;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t own = tensors[t].shape.size() * tensors[t].type_in_file().bytes;
    if (bytes > 0 && bytes + own > checkpoint.most_shard_bytes) {
      bounds.push_back(t);
      bytes = 0;
    }
    bytes += own;
  }
  bounds.push_back(tensors.size());
  return bounds;
}

}  // namespace

void write_streamed_checkpoint(const StreamedCheckpoint& checkpoint) {
  const auto& tensors = checkpoint.content.tensors;
  const std::vector<std::size_t> bounds = shard_bounds(checkpoint);
  Manifest manifest{.step = checkpoint.step, .files = std::vector<Fingerprint>(1)};  // the index comes first
  std::vector<Range> owned;                                                          // [shard][tensor]
  for (std::size_t shard = 0; shard + 1 < bounds.size(); ++shard) {
    const std::size_t first = bounds[shard], end = bounds[shard + 1];
    std::vector<ShardTensor> own;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const bool here = t >= first && t < end;
      owned.push_back({0, here ? tensors[t].shape.size() : 0});
      if (here) own.push_back({tensors[t].name, tensors[t].type_in_file(), tensors[t].shape.size()});
    }
    const std::string path = checkpoint.path_of(shard_file(static_cast<std::int64_t>(shard)));
    const auto read = [&](std::size_t tensor, std::int64_t begin, std::span<std::byte> out) {
      checkpoint.read(first + tensor, begin, out);
    };
    write_shard(path, own, read, [] {});
    manifest.files.push_back(fingerprint_of(path));
  }
  const std::string index = checkpoint.path_of(checkpoint_file(0));
  write_index(index, checkpoint.content, owned);
  manifest.files[0] = fingerprint_of(index);
  write_text(checkpoint.path_of(manifest_name), manifest.to_json());
}

}  // namespace causeway
