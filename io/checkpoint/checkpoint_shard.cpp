#include "io/checkpoint/checkpoint_shard.hpp"

#include <algorithm>
#include <type_traits>

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
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const ShardTensor& tensor = tensors[t];
    if (tensor.elements == 0) continue;
    const hdf5::ElementType stored = stored_as(tensor.dtype);
    // The last chunk is stored whole, so all chunks get about the same size.
    const std::int64_t most = chunk_bytes / stored.bytes, chunks = ceil_div(tensor.elements, most);
    const std::int64_t chunk = ceil_div(tensor.elements, chunks);
    hdf5::Dataset dataset = file.create_dataset(
        tensor.name, {.shape = {tensor.elements}, .type = stored, .chunk_rows = chunk, .fletcher32 = true});
    dispatch(tensor.dtype, [&]<class T>() {
      using Stored = std::conditional_t<std::is_same_v<T, double>, double, float>;
      std::vector<T> values;
      std::vector<Stored> converted;
      for (std::int64_t begin = 0; begin < tensor.elements; begin += chunk) {
        between();
        values.resize(static_cast<std::size_t>(std::min(chunk, tensor.elements - begin)));
        read(t, begin * static_cast<std::int64_t>(sizeof(T)), std::as_writable_bytes(std::span(values)));
        if constexpr (std::is_same_v<T, Stored>) {
          dataset.write_rows(begin, std::span<const T>(values));
        } else {
          converted.assign(values.begin(), values.end());
          dataset.write_rows(begin, std::span<const Stored>(converted));
        }
      }
    });
  }
  file.close();
  sync_to_disk(path);
}

}  // namespace causeway
