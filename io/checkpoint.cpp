#include "io/checkpoint.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "io/atomic_file.hpp"
#include "io/first_rank.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr const char* format_name = "causeway-checkpoint";
constexpr std::int64_t format_version = 1;
/// Bytes in flight from one rank to the writer.
constexpr std::int64_t piece_bytes = std::int64_t{4} << 20;

std::vector<std::int64_t> extents_of(const Shape& shape) {
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(shape[axis]);
  return extents;
}

DType stored_as(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// Calls body with a `double` or `float` as the type a tensor of this dtype is stored in.
template <class Body>
void with_stored_type(DType dtype, Body&& body) {
  if (stored_as(dtype) == DType::f64)
    body(double{});
  else
    body(float{});
}

/// Takes a tensor's elements in order, in pieces of any length, and writes them in whole rows.
class RowWriter {
 public:
  RowWriter(hdf5::File& file, const CheckpointTensor& tensor)
      : row_size_(std::max<std::int64_t>(1, tensor.shape.row_size())), dtype_(tensor.dtype) {
    const std::int64_t row_bytes = row_size_ * size_of(stored_as(dtype_));
    const std::int64_t chunk_rows =
        std::clamp<std::int64_t>((std::int64_t{1} << 20) / row_bytes, 1, std::max<std::int64_t>(1, tensor.shape[0]));
    dataset_ = file.create_dataset(tensor.name, {.shape = extents_of(tensor.shape),
                                                 .type = stored_as(dtype_) == DType::f64 ? hdf5::f64 : hdf5::f32,
                                                 .chunk_rows = chunk_rows,
                                                 .fletcher32 = true});
  }

  void append(std::span<const std::byte> bytes) {
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    const std::int64_t rows = static_cast<std::int64_t>(pending_.size()) / (row_size_ * size_of(dtype_));
    if (rows == 0) return;
    const std::int64_t count = rows * row_size_;
    with_stored_type(dtype_, [&]<class T>(T) {
      std::vector<T> values(static_cast<std::size_t>(count));
      if (dtype_ == DType::bf16)
        for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = static_cast<T>(element<bf16>(i));
      else
        std::memcpy(values.data(), pending_.data(), values.size() * sizeof(T));
      dataset_.write_rows(written_, std::span<const T>(values));
    });
    pending_.erase(pending_.begin(), pending_.begin() + count * size_of(dtype_));
    written_ += rows;
  }

  void finish() const {
    ensure(pending_.empty() && written_ == dataset_.rows(), "{}: {} of {} rows written", dataset_.where(), written_,
           dataset_.rows());
  }

 private:
  template <class T>
  T element(std::int64_t i) const {
    T value;
    std::memcpy(&value, pending_.data() + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    return value;
  }

  hdf5::Dataset dataset_;
  std::int64_t row_size_, written_ = 0;
  DType dtype_;
  std::vector<std::byte> pending_;
};

/// Every rank's `owned` of every tensor: [rank][tensor].
std::vector<Range> gather_ranges(const CheckpointContent& content, Communicator& ranks) {
  std::vector<Range> own;
  for (const CheckpointTensor& tensor : content.tensors) own.push_back(tensor.owned);
  std::vector<Range> all(own.size() * static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)), Stream());
  return all;
}

/// Brings one tensor's elements to rank 0, in order and in bounded pieces, and hands them to `take` there. They travel
/// between the ranks in host memory, wherever they were.
void stream_to_first(const CheckpointTensor& tensor, std::span<const Range> owned, Communicator& ranks,
                     const Stream& stream, const std::function<void(std::span<const std::byte>)>& take) {
  const std::int64_t piece = piece_bytes / size_of(tensor.dtype);
  const Stream host = stream.host();
  const bool staged = stream.device() != Device::cpu;
  const Tensor stage(host, DType::u8, {staged ? piece_bytes : 0});
  std::vector<std::byte> buffer;
  for (int owner = 0; owner < ranks.size(); ++owner) {
    const Range range = owned[static_cast<std::size_t>(owner)];
    if (ranks.rank() != 0 && ranks.rank() != owner) continue;
    for (std::int64_t at = range.begin; at < range.end; at += piece) {
      const auto bytes = static_cast<std::size_t>(std::min(piece, range.end - at) * size_of(tensor.dtype));
      const auto* mine = static_cast<const std::byte*>(tensor.data) + (at - range.begin) * size_of(tensor.dtype);
      if (staged && ranks.rank() == owner) {
        stream.copy(stage.view().data, mine, static_cast<std::int64_t>(bytes));
        stream.wait();
        mine = stage.view().row<std::byte>(0);
      }
      if (owner == 0) {
        take({mine, bytes});
      } else if (ranks.rank() == owner) {
        const Transfer transfer{.peer = 0, .send = {mine, bytes}, .recv = {}};
        ranks.exchange({&transfer, 1}, host);
      } else {
        buffer.resize(bytes);
        const Transfer transfer{.peer = owner, .send = {}, .recv = buffer};
        ranks.exchange({&transfer, 1}, host);
        take(buffer);
      }
    }
  }
}

/// A checkpoint was written by Causeway, so whatever does not fit in it is damage.
template <class Work>
auto damage_is_corrupt(Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.code() != ExitCode::usage) throw;
    throw Error(ExitCode::corrupt, error.what());
  }
}

/// Moves `run`/step-N.tmp into place and points `latest` at it.
void publish(const fs::path& run, const std::string& name) {
  const fs::path target = run / name, temporary = run / (name + ".tmp"), old = run / (name + ".old");
  fs::remove_all(old);
  if (fs::exists(target)) fs::rename(target, old);  // left by a run that ended before `latest` named it
  fs::rename(temporary, target);
  sync_to_disk(run.string());
  const fs::path link = run / "latest.tmp";
  fs::remove(link);
  fs::create_symlink(name, link);
  fs::rename(link, run / "latest");
  sync_to_disk(run.string());
  fs::remove_all(old);
}

}  // namespace

void write_checkpoint(const std::string& run, std::int64_t step, const CheckpointContent& content, Communicator& ranks,
                      const Stream& stream) {
  const std::string name = fmt::format("step-{}", step);
  const fs::path folder = fs::path(run) / (name + ".tmp"), index = folder / "index.h5";
  const std::vector<Range> owned = gather_ranges(content, ranks);

  std::optional<hdf5::File> file;
  FirstRank first_rank(ranks);
  first_rank([&] {
    fs::remove_all(folder);
    fs::create_directories(folder);
    file = hdf5::File::open(index.string(), hdf5::Access::create);
    file->set_attribute("format", format_name);
    file->set_attribute("version", format_version);
    for (const auto& [key, value] : content.attributes) file->set_attribute(key, value);
    hdf5::Object state = file->create_group("state");
    for (const auto& [key, value] : content.state) state.set_attribute(key, value);
  });
  for (std::size_t i = 0; i < content.tensors.size(); ++i) {
    const CheckpointTensor& tensor = content.tensors[i];
    std::vector<Range> parts;
    for (int rank = 0; rank < ranks.size(); ++rank)
      parts.push_back(owned[static_cast<std::size_t>(rank) * content.tensors.size() + i]);
    std::optional<RowWriter> writer;
    first_rank([&] { writer.emplace(*file, tensor); });
    stream_to_first(tensor, parts, ranks, stream,
                    [&](std::span<const std::byte> bytes) { first_rank([&] { writer->append(bytes); }); });
    first_rank([&] { writer->finish(); });
  }
  first_rank([&] {
    file->close();
    file.reset();
    sync_to_disk(index.string());
    sync_to_disk(folder.string());
    publish(run, name);
  });
  try {
    first_rank.agree();
  } catch (...) {
    std::error_code ignored;  // what went wrong before matters more
    file.reset();
    if (ranks.rank() == 0) fs::remove_all(folder, ignored);
    throw;
  }
}

std::optional<std::string> latest_checkpoint(const std::string& run) {
  std::error_code error;
  const fs::path link = fs::path(run) / "latest";
  if (!fs::exists(fs::symlink_status(link, error))) return std::nullopt;
  const fs::path target = fs::canonical(link, error);
  if (error || !fs::is_directory(target))
    fail(ExitCode::corrupt, "{}: names no checkpoint that is there", link.string());
  return target.string();
}

Checkpoint::Checkpoint(const std::string& path) : path_(path) {
  if (!fs::exists(fs::path(path) / "index.h5")) {
    const std::optional<std::string> latest = latest_checkpoint(path);
    require(latest.has_value(), "{}: is no checkpoint: it has neither index.h5 nor latest", path);
    path_ = *latest;
  }
  const std::string index = (fs::path(path_) / "index.h5").string();
  if (!fs::exists(index)) fail(ExitCode::corrupt, "{}: is missing", index);
  damage_is_corrupt([&] {
    file_ = hdf5::File::open(index, hdf5::Access::read, ExitCode::corrupt);
    require(file_.string_attribute("format") == format_name, "{}: attribute format is not '{}'", index, format_name);
  });
  const std::int64_t version = file_.integer_attribute("version");
  require(version == format_version, "{}: attribute version is {}, expected {}", index, version, format_version);
}

void Checkpoint::read(const std::string& name, const Shape& shape, DType dtype, Range range, void* out,
                      const Stream& stream) const {
  if (range.size() <= 0) return;
  const hdf5::Dataset dataset = damage_is_corrupt([&] {
    hdf5::Dataset found = file_.dataset(name);
    require(found.shape() == extents_of(shape), "{}: shape is [{}], expected {}", found.where(),
            fmt::join(found.shape(), ", "), shape.to_string());
    return found;
  });
  const std::int64_t row_size = std::max<std::int64_t>(1, shape.row_size());
  const std::int64_t step = std::max<std::int64_t>(1, piece_bytes / (row_size * size_of(stored_as(dtype))));
  const std::int64_t first = range.begin / row_size, last = (range.end + row_size - 1) / row_size;
  for (std::int64_t row = first; row < last; row += step) {
    const std::int64_t rows = std::min(step, last - row);
    const std::int64_t begin = std::max(range.begin, row * row_size),
                       end = std::min(range.end, (row + rows) * row_size);
    with_stored_type(dtype, [&]<class T>(T) {
      std::vector<T> values(static_cast<std::size_t>(rows * row_size));
      damage_is_corrupt([&] { dataset.read_rows(row, std::span<T>(values)); });
      dispatch(dtype, [&]<class U>() {
        std::vector<U> converted(static_cast<std::size_t>(end - begin));
        for (std::int64_t i = begin; i < end; ++i)
          converted[static_cast<std::size_t>(i - begin)] =
              U(static_cast<Accumulator<U>>(values[static_cast<std::size_t>(i - row * row_size)]));
        stream.upload(static_cast<U*>(out) + (begin - range.begin), converted.data(),
                      (end - begin) * static_cast<std::int64_t>(sizeof(U)));
      });
    });
  }
}

}  // namespace causeway
