#include "io/tensors/safetensors_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file/atomic_file.hpp"
#include "io/tensors/safetensors.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/integer.hpp"

namespace causeway {
namespace {

std::string_view type_in_format(TensorType type) {
  for (const auto& [name, known] : safetensors_types)
    if (known == type) return name;
  fail(ExitCode::internal, "safetensors has no type {}", static_cast<int>(type));
}

/// The size of the header and the header, padded with blanks so that the data begin at a multiple of 8.
std::string header_of(std::span<const TensorPlan> tensors) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  std::int64_t at = 0;
  for (const TensorPlan& tensor : tensors) {
    header[tensor.name] = {
        {"dtype", type_in_format(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize(round_up(text.size(), std::size_t{8}), ' ');
  const auto size = static_cast<std::uint64_t>(text.size());
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(PathOf path_of, std::vector<TensorPlan> tensors, std::int64_t most_shard_bytes)
    : path_of_(std::move(path_of)), order_(std::move(tensors)) {
  shards_.emplace_back();
  for (std::size_t t = 0; t < order_.size(); ++t) {
    const std::int64_t bytes = order_[t].bytes();
    if (shards_.back().bytes > 0 && shards_.back().bytes + bytes > most_shard_bytes)
      shards_.push_back({.begin = t, .end = t});
    shards_.back().end = t + 1;
    shards_.back().bytes += bytes;
  }
  for (std::size_t number = 0; number < shards_.size(); ++number) {
    Shard& shard = shards_[number];
    shard.name = shards_.size() == 1 ? safetensors_file
                                     : fmt::format("model-{:05}-of-{:05}.safetensors", number + 1, shards_.size());
    std::stable_sort(order_.begin() + static_cast<std::ptrdiff_t>(shard.begin),
                     order_.begin() + static_cast<std::ptrdiff_t>(shard.end),
                     [](const TensorPlan& a, const TensorPlan& b) { return size_of(a.type) > size_of(b.type); });
  }
  open_shard();
}

void SafetensorsWriter::open_shard() {
  const Shard& shard = shards_[open_];
  path_ = path_of_(shard.name);
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  file_ = Descriptor(posix_check(file, path_, "create"));
  left_ = shard.bytes;
  if (!write_all(file_.get(), header_of(std::span(order_).subspan(shard.begin, shard.end - shard.begin))))
    posix_check(-1, path_, "write");
}

void SafetensorsWriter::close_shard() {
  posix_check(::fsync(file_.get()), path_, "sync to the disk");
  file_ = {};
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (left_ == 0) {
      ensure(open_ + 1 < shards_.size(), "{}: more bytes are written than its tensors have", path_);
      close_shard();
      ++open_;
      open_shard();
    }
    const std::size_t count = std::min(bytes.size(), static_cast<std::size_t>(left_));
    if (!write_all(file_.get(), {reinterpret_cast<const char*>(bytes.data()), count})) posix_check(-1, path_, "write");
    left_ -= static_cast<std::int64_t>(count);
    bytes = bytes.subspan(count);
  }
}

void SafetensorsWriter::finish() {
  ensure(left_ == 0 && open_ + 1 == shards_.size(), "{}: fewer bytes are written than its tensors have", path_);
  close_shard();
  if (shards_.size() == 1) return;
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  std::int64_t total = 0;
  for (const Shard& shard : shards_) {
    total += shard.bytes;
    for (std::size_t t = shard.begin; t < shard.end; ++t) map[order_[t].name] = shard.name;
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}};
  write_text(path_of_(safetensors_index_file), index.dump(2) + "\n");
}

}  // namespace causeway
