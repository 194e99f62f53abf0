#include "io/checkpoint/checkpoint_shard.hpp"

#include <algorithm>

#include "io/checkpoint/checkpoint_content.hpp"
#include "io/file/atomic_file.hpp"
#include "kernels/core/integer.hpp"

namespace causeway {
namespace {

constexpr std::int64_t chunk_bytes = std::int64_t{1} << 20;

}  // namespace

void write_shard(const std::string& path, std::span<const ShardTensor> tensors,
                 const std::function<void(std::size_t, std::int64_t, std::span<std::byte>)>& read,
                 const std::function<void()>& between) {
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  file.set_attribute("format", checkpoint_format);
  std::vector<std::byte> values;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const ShardTensor& tensor = tensors[t];
    if (tensor.elements == 0) continue;
    // The last chunk is stored whole, so all chunks get about the same size.
    const std::int64_t most = chunk_bytes / tensor.type.bytes, chunks = ceil_div(tensor.elements, most);
    const std::int64_t chunk = ceil_div(tensor.elements, chunks);
    hdf5::Dataset dataset = file.create_dataset(
        tensor.name, {.shape = {tensor.elements}, .type = tensor.type, .chunk_rows = chunk, .fletcher32 = true});
    for (std::int64_t begin = 0; begin < tensor.elements; begin += chunk) {
      between();
      values.resize(static_cast<std::size_t>(std::min(chunk, tensor.elements - begin) * tensor.type.bytes));
      read(t, begin * tensor.type.bytes, values);
      dataset.write_bytes(begin, values);
    }
  }
  file.close();
  sync_to_disk(path);
}

}  // namespace causeway
