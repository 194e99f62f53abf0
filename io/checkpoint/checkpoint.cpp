#include "io/checkpoint/checkpoint.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/corrupt_errors.hpp"
#include "io/file/look_up.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// The largest number of bytes of one read. between() is called between two reads.
constexpr std::int64_t piece_bytes = std::int64_t{4} << 20;

/// Ends an error about a folder with a config.json: Hugging Face's models have one.
constexpr const char* other_program =
    "; causeway convert --to causeway makes a checkpoint of a model of another program";

std::string in(const std::string& folder, const std::string& file) { return (fs::path(folder) / file).string(); }

/// The paths of all datasets below `group`. The depth is limited, because in a damaged file a group may contain itself.
void list_tensors(const hdf5::File& file, const std::string& group, std::vector<std::string>& names) {
  require(std::ranges::count(group, '/') < 3, "{}:/{}: is nested too deep for a tensor", file.path(),
          group.substr(0, 80));
  for (const std::string& name : file.list(group)) {
    const std::string path = group + "/" + name;
    if (file.is_dataset(path))
      names.push_back(path);
    else
      list_tensors(file, path, names);
  }
}

template <class Wide>
std::vector<Wide> widened(hdf5::ElementType type, std::span<const std::byte> values) {
  std::vector<Wide> wide(values.size() / static_cast<std::size_t>(type.bytes));
  constexpr TensorType to = sizeof(Wide) == sizeof(double) ? TensorType::f64 : TensorType::f32;
  convert_elements(tensor_type_of(type), values, to, std::as_writable_bytes(std::span(wide)));
  return wide;
}

}  // namespace

std::int64_t Checkpoint::TensorInfo::size() const {
  std::int64_t size = 1;
  for (const std::int64_t extent : shape) size *= extent;
  return size;
}

Checkpoint::Checkpoint(const std::string& path) {
  find(path);
  check_files(0, 1);
  open_index(0, 1);
}

Checkpoint::Checkpoint(const std::string& path, Communicator& ranks, std::function<void()> between)
    : between_(std::move(between)) {
  collectively(ranks, [&] {
    find(path);
    check_files(ranks.rank(), ranks.size());
  });
  require_same(ranks, path,
               manifest_ ? fmt::format("step {} of {} ranks, its index with SHA-256 {}", manifest_->step,
                                       manifest_->ranks(), manifest_->files.front().sha256)
                         : "a checkpoint of version 1");
  collectively(ranks, [&] { open_index(ranks.rank(), ranks.size()); });
}

void Checkpoint::find(const std::string& path) {
  path_ = path;
  const auto has_checkpoint = [&] {
    return is_there(in(path_, checkpoint_file(0))) || is_there(in(path_, manifest_name));
  };
  if (!has_checkpoint()) {
    const std::optional<std::string> latest = latest_checkpoint(path);
    if (!latest && is_there(path) && step_of_folder(fs::path(path).filename().string()))
      fail(ExitCode::corrupt, "{}: is missing", in(path_, manifest_name));
    const auto kind = kind_of(path);
    require(kind != fs::file_type::not_found, "{}: {}", path, why_missing(path, "folder"));
    require(kind == fs::file_type::directory,
            "{}: is a file, expected the folder of a checkpoint (step-N) or of a run; a dataset is given as --data",
            path);
    require(latest.has_value(), "{}: is not a checkpoint or a run: it has neither {} nor latest{}", path,
            checkpoint_file(0), is_there(in(path, "config.json")) ? other_program : "");
    path_ = *latest;
  }
  if (is_there(in(path_, manifest_name))) {
    manifest_ = read_manifest(path_);
  } else if (!is_there(in(path_, checkpoint_file(0)))) {
    fail(ExitCode::corrupt, "{}: is missing", in(path_, checkpoint_file(0)));
  }
}

void Checkpoint::check_files(int rank, int ranks) const {
  if (!manifest_) return;
  for (std::int64_t file = rank; file < std::ssize(manifest_->files); file += ranks)
    check_file(path_, *manifest_, file, between_);
}

void Checkpoint::open_index(int rank, int ranks) {
  const std::string path = in(path_, checkpoint_file(0));
  usage_errors_as_corrupt([&] {
    index_ = hdf5::File::open(path, hdf5::Access::read, ExitCode::corrupt);
    require(index_.string_attribute("format") == checkpoint_format, "{}: attribute format is not '{}'", path,
            checkpoint_format);
  });
  const auto version = usage_errors_as_corrupt([&] { return index_.integer_attribute("version"); });
  if (version != 1 && version != 2)
    fail(ExitCode::corrupt, "{}: attribute version is {}, expected 1 or 2", path, version);
  if (version == 2 && !manifest_) fail(ExitCode::corrupt, "{}: is missing", in(path_, manifest_name));
  if (version == 1 && manifest_)
    fail(ExitCode::corrupt, "{}: attribute version is 1, but the folder has a {}", path, manifest_name);
  if (!manifest_) return;
  const std::vector<std::string> all = names();
  for (std::size_t n = static_cast<std::size_t>(rank); n < all.size(); n += static_cast<std::size_t>(ranks))
    tensor(all[n]);  // throws unless its parts are valid
}

Checkpoint::TensorInfo Checkpoint::tensor(const std::string& name) const {
  if (manifest_) {
    TensorParts parts = tensor_parts(index_, name, manifest_->ranks());
    return {name, std::move(parts.shape), parts.type};
  }
  return usage_errors_as_corrupt([&] {
    const hdf5::Dataset dataset = index_.dataset(name);
    require(hdf5::is_weight(dataset.type()), "{}: holds {}, expected f64, f32, f16 or bf16", dataset.where(),
            dataset.type().to_string());
    return TensorInfo{name, dataset.shape(), dataset.type()};
  });
}

std::vector<std::string> Checkpoint::names() const {
  return usage_errors_as_corrupt([&] {
    std::vector<std::string> names;
    for (const char* group : {"parameters", "optimizer"})
      if (index_.exists(group)) list_tensors(index_, group, names);
    return names;
  });
}

std::vector<std::string> Checkpoint::unknown_objects() const {
  std::vector<std::string> unknown = index_.list();
  constexpr std::string_view known[] = {"parameters", "optimizer", "state", "source"};
  std::erase_if(unknown, [&](const std::string& name) { return std::ranges::find(known, name) != std::end(known); });
  return unknown;
}

std::vector<Checkpoint::TensorInfo> Checkpoint::tensors() const {
  std::vector<TensorInfo> all;
  for (const std::string& name : names()) all.push_back(tensor(name));
  return all;
}

const hdf5::File& Checkpoint::shard(std::int64_t number) const {
  constexpr std::size_t most_open = 16;  // a rank reads only a few shards at a time
  const auto found = shards_.find(number);
  if (found != shards_.end()) return found->second;
  if (shards_.size() >= most_open) shards_.clear();
  return shards_.emplace(number, hdf5::File::open(in(path_, shard_file(number)), hdf5::Access::read, ExitCode::corrupt))
      .first->second;
}

void Checkpoint::read_pieces(const std::string& name, const TensorInfo& tensor, Range range,
                             const std::function<void(std::int64_t, std::span<const std::byte>)>& take) const {
  const std::int64_t each = tensor.type.bytes;
  std::vector<std::byte> values;
  if (!manifest_) {
    const hdf5::Dataset dataset = index_.dataset(name);
    const std::int64_t row_size = std::max<std::int64_t>(1, dataset.row_size());
    const std::int64_t most_rows = std::max<std::int64_t>(1, piece_bytes / (row_size * each));
    for (std::int64_t row = range.begin / row_size; row * row_size < range.end; row += most_rows) {
      const std::int64_t rows = std::min(most_rows, dataset.rows() - row), first = row * row_size;
      values.resize(static_cast<std::size_t>(rows * row_size * each));
      if (between_) between_();
      dataset.read_bytes(row, values);
      const std::int64_t begin = std::max(range.begin, first), end = std::min(range.end, first + rows * row_size);
      take(begin, std::span(values).subspan(static_cast<std::size_t>((begin - first) * each),
                                            static_cast<std::size_t>((end - begin) * each)));
    }
    return;
  }
  for (const TensorParts::Part& part : tensor_parts(index_, name, manifest_->ranks()).parts) {
    const Range wanted{std::max(range.begin, part.elements.begin), std::min(range.end, part.elements.end)};
    if (wanted.size() <= 0) continue;
    const hdf5::Dataset dataset = shard(part.shard).dataset(name);
    require(dataset.shape() == std::vector{part.elements.size()} && dataset.type() == tensor.type,
            "{}: holds {} [{}], expected {} [{}]", dataset.where(), dataset.type().to_string(),
            fmt::join(dataset.shape(), ", "), tensor.type.to_string(), part.elements.size());
    const std::int64_t most = piece_bytes / each;
    for (std::int64_t begin = wanted.begin; begin < wanted.end; begin += most) {
      values.resize(static_cast<std::size_t>(std::min(most, wanted.end - begin) * each));
      if (between_) between_();
      dataset.read_bytes(begin - part.elements.begin, values);
      take(begin, values);
    }
  }
}

void Checkpoint::read(const std::string& name, const Shape& shape, DType dtype, Range range, void* out,
                      const Stream& stream) const {
  if (range.size() <= 0) return;
  usage_errors_as_corrupt([&] {
    const TensorInfo tensor = this->tensor(name);
    require(tensor.shape == extents_of(shape), "{}:/{}: shape is [{}], expected {}", index_.path(), name,
            fmt::join(tensor.shape, ", "), shape.to_string());
    const auto convert = [&]<class Wide>(std::int64_t begin, const std::vector<Wide>& values) {
      dispatch(dtype, [&]<class T>() {
        std::vector<T> converted;
        converted.reserve(values.size());
        for (const Wide value : values) {
          converted.push_back(T(static_cast<Accumulator<T>>(value)));
          if (std::isfinite(static_cast<double>(static_cast<Accumulator<T>>(converted.back())))) continue;
          fail(ExitCode::non_finite, "{}:/{}: value {} of {} is {}{}, expected finite numbers", index_.path(), name,
               begin + std::ssize(converted) - 1, tensor.size(), value,
               std::isfinite(value) ? fmt::format(", too large for {}", name_of(dtype)) : "");
        }
        stream.upload(static_cast<T*>(out) + (begin - range.begin), converted.data(),
                      std::ssize(converted) * static_cast<std::int64_t>(sizeof(T)));
      });
    };
    read_pieces(name, tensor, range, [&](std::int64_t begin, std::span<const std::byte> values) {
      if (tensor.type == hdf5::f64)
        convert(begin, widened<double>(tensor.type, values));
      else
        convert(begin, widened<float>(tensor.type, values));
    });
  });
}

void Checkpoint::require_range(const TensorInfo& tensor, Range range) const {
  require(range.begin >= 0 && range.end <= tensor.size(), "{}:/{}: has {} elements, expected [{}, {})", index_.path(),
          tensor.name, tensor.size(), range.begin, range.end);
}

void Checkpoint::read(const std::string& name, std::int64_t begin, std::span<double> out) const {
  usage_errors_as_corrupt([&] {
    const TensorInfo tensor = this->tensor(name);
    const Range range{begin, begin + std::ssize(out)};
    require_range(tensor, range);
    read_pieces(name, tensor, range, [&](std::int64_t at, std::span<const std::byte> values) {
      std::ranges::copy(widened<double>(tensor.type, values), out.begin() + (at - begin));
    });
  });
}

void Checkpoint::read_stored(const std::string& name, std::int64_t begin, std::span<std::byte> out) const {
  usage_errors_as_corrupt([&] {
    const TensorInfo tensor = this->tensor(name);
    const Range range{begin, begin + std::ssize(out) / tensor.type.bytes};
    require_range(tensor, range);
    read_pieces(name, tensor, range, [&](std::int64_t at, std::span<const std::byte> values) {
      std::ranges::copy(values, out.begin() + (at - begin) * tensor.type.bytes);
    });
  });
}

std::optional<CheckpointSource> Checkpoint::source() const {
  return usage_errors_as_corrupt([&]() -> std::optional<CheckpointSource> { return read_source(index_); });
}

}  // namespace causeway
