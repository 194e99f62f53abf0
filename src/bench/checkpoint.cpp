#include "src/bench/checkpoint.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_writer.hpp"
#include "src/runtime/wall_clock.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t tensors = 96, columns = 512;

double seconds_of(Communicator& ranks, const std::function<void()>& work) {
  ranks.barrier();
  const WallClock clock;
  work();
  return ranks.max(clock.seconds());
}

/// A folder that the first rank removes at the end.
class ScratchFolder {
 public:
  ScratchFolder(const std::string& folder, Communicator& ranks) : owner_(ranks.rank() == 0) {
    const std::string made = ranks.broadcast(owner_ ? fmt::format("checkpoint-bench-{}", ::getpid()) : "", 0);
    path_ = (fs::path(folder) / made).string();
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (owner_) fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  bool owner_;
  std::string path_;
};

}  // namespace

CheckpointMeasurement measure_checkpoint(const std::string& folder, std::int64_t bytes, Communicator& ranks,
                                         const Stream& stream) {
  constexpr std::int64_t element = size_of(DType::f32), repetitions = 4;
  const std::int64_t rows = std::max<std::int64_t>(1, bytes / (tensors * columns * element)), size = rows * columns;
  const Range shard{ranks.rank() * tensors * size / ranks.size(), (ranks.rank() + 1) * tensors * size / ranks.size()};
  const Tensor state = Tensor::zeros(stream, DType::f32, {std::max<std::int64_t>(1, shard.size())});
  float* const numbers = state.view().row<float>(0);
  CheckpointContent content{.attributes = {}, .state = {{"step", std::int64_t{1}}}, .tensors = {}};
  for (std::int64_t tensor = 0; tensor < tensors; ++tensor) {
    const std::int64_t first = tensor * size, begin = std::clamp(shard.begin, first, first + size),
                       end = std::clamp(shard.end, first, first + size);
    content.tensors.push_back({.name = fmt::format("parameters/tensor.{:02}", tensor),
                               .shape = {rows, columns},
                               .dtype = DType::f32,
                               .owned = {begin - first, end - first},
                               .data = numbers + (begin - shard.begin)});
  }

  const ScratchFolder scratch(folder, ranks);
  CheckpointMeasurement found;
  {
    CheckpointWriter writer({.run = scratch.path(), .retention = {.last = 1}}, ranks, stream);
    for (std::int64_t step = 1; step <= repetitions; ++step) {
      std::optional<PublishedCheckpoint> published;
      double copy = 0;
      const double all = seconds_of(ranks, [&] {
        copy = seconds_of(ranks, [&] { writer.start(step, content); });
        published = writer.finish();
      });
      found.bytes = ranks.max(published->bytes);
      if (step == 1) found.first_copy_s = copy;
      found.copy_s = step == 1 ? copy : std::min(found.copy_s, copy);
      found.published_s = step == 1 ? all : std::min(found.published_s, all);
    }
    found.host_bytes = ranks.max(writer.host_bytes());
  }
  std::optional<Checkpoint> checkpoint;
  found.checked_s = seconds_of(ranks, [&] { checkpoint.emplace(scratch.path(), ranks); });
  found.read_s = seconds_of(ranks, [&] {
    for (const CheckpointTensor& tensor : content.tensors)
      checkpoint->read(tensor.name, tensor.shape, tensor.dtype, tensor.owned,
                       numbers + (static_cast<const float*>(tensor.data) - numbers), stream);
    stream.wait();
  });
  checkpoint.reset();
  ranks.barrier();
  return found;
}

std::string text_of(const CheckpointMeasurement& found, int ranks, Device device) {
  const auto rate = [&](double seconds) { return static_cast<double>(found.bytes) / seconds / 1e9; };
  return fmt::format(
      "{} ranks, {}: {:.1f} MB of files, {:.1f} MB of memory a rank\n"
      "training waits  {:>9.1f} ms, the first time {:.1f} ms\n"
      "published after {:>9.1f} ms, {:.2f} GB/s\n"
      "checked in      {:>9.1f} ms, {:.2f} GB/s\n"
      "read in         {:>9.1f} ms, {:.2f} GB/s\n",
      ranks, name_of(device), static_cast<double>(found.bytes) / 1e6, static_cast<double>(found.host_bytes) / 1e6,
      found.copy_s * 1e3, found.first_copy_s * 1e3, found.published_s * 1e3, rate(found.published_s),
      found.checked_s * 1e3, rate(found.checked_s), found.read_s * 1e3, rate(found.read_s));
}

nlohmann::ordered_json to_json(const CheckpointMeasurement& found, int ranks) {
  return {{"ranks", ranks},
          {"bytes", found.bytes},
          {"copy_s", found.copy_s},
          {"first_copy_s", found.first_copy_s},
          {"published_s", found.published_s},
          {"checked_s", found.checked_s},
          {"read_s", found.read_s},
          {"host_bytes", found.host_bytes}};
}

}  // namespace causeway
