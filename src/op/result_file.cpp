#include "src/op/result_file.hpp"

#include <algorithm>

namespace causeway {
namespace {

hdf5::ElementType stored_type(DType dtype) { return dtype == DType::f64 ? hdf5::f64 : hdf5::f32; }

/// Writes the rows of a host tensor to the rows of the dataset from `begin` on.
void write_rows(hdf5::Dataset& dataset, std::int64_t begin, TensorView in) {
  if (in.size() == 0) return;
  if (in.dtype == DType::f64) return dataset.write_rows<double>(begin, in.as<double>());
  if (in.dtype == DType::f32) return dataset.write_rows<float>(begin, in.as<float>());
  const std::int64_t step =
      std::max<std::int64_t>(1, (std::int64_t{1} << 20) / std::max<std::int64_t>(1, in.columns()));
  for (std::int64_t row = 0; row < in.rows(); row += step) {
    const std::span<bf16> narrow = in.slice_rows(row, std::min(step, in.rows() - row)).as<bf16>();
    const std::vector<float> wide(narrow.begin(), narrow.end());
    dataset.write_rows<float>(begin + row, wide);
  }
}

}  // namespace

ResultFile::ResultFile(const std::string& path, Communicator& ranks) : path_(path), ranks_(ranks) {
  collectively(ranks, [&] {
    if (ranks.rank() == 0) file_ = std::make_unique<AtomicFile>(path);
  });
  temporary_ = ranks.broadcast(file_ == nullptr ? std::string() : file_->temporary(), 0);
}

void ResultFile::write(const std::vector<ResultTensor>& tensors, const std::map<std::string, hdf5::Value>& attributes,
                       const Sharding& sharding) {
  collectively(ranks_, [&] {
    if (ranks_.rank() != 0) return;
    hdf5::File file = hdf5::File::open(temporary_, hdf5::Access::create, ExitCode::io);
    for (const ResultTensor& tensor : tensors) {
      std::vector<std::int64_t> shape;
      for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
      hdf5::Dataset dataset =
          file.create_dataset(tensor.name, {.shape = shape, .type = stored_type(tensor.local.dtype)});
      if (!tensor.per_token) write_rows(dataset, 0, tensor.local);
    }
    for (const auto& [name, value] : attributes) file.set_attribute(name, value);
    file.close();
  });
  for (int writer = 0; writer < ranks_.size(); ++writer)
    collectively(ranks_, [&] {
      if (ranks_.rank() != writer || sharding.local_tokens() == 0) return;
      hdf5::File file = hdf5::File::open(temporary_, hdf5::Access::update, ExitCode::io);
      for (const ResultTensor& tensor : tensors) {
        if (!tensor.per_token) continue;
        hdf5::Dataset dataset = file.dataset(tensor.name);
        for (const Chunk& chunk : sharding.chunks())
          write_rows(dataset, chunk.tokens.begin, tensor.local.slice_rows(chunk.first_row, chunk.tokens.size()));
      }
      file.close();
    });
  collectively(ranks_, [&] {
    if (file_ != nullptr) file_->commit();
  });
}

}  // namespace causeway
