#include "src/runtime/benchmark_tensors.hpp"

#include <algorithm>

#include "kernels/core/random.hpp"

namespace causeway {

void fill_with_random(const Stream& stream, TensorView x, double low, double high, std::uint64_t seed) {
  constexpr std::int64_t period = 65537;
  const std::int64_t drawn = std::min(period, x.size());
  const RandomStream draws(seed, 0);
  const Tensor pattern(Stream(), x.dtype, {drawn});
  dispatch(x.dtype, [&]<class T>() {
    std::uint64_t i = 0;
    for (T& element : pattern.view().as<T>())
      element = static_cast<Accumulator<T>>(low + (high - low) * draws.uniform(i++));
  });
  auto* const bytes = static_cast<std::byte*>(x.data);
  stream.upload(bytes, pattern.view().data, pattern.view().bytes());
  // Copies the filled part to the elements after it, until all are filled. The filled part always has whole periods.
  for (std::int64_t done = pattern.view().bytes(), all = x.bytes(); done < all; done += std::min(done, all - done))
    stream.copy(bytes + done, bytes, std::min(done, all - done));
}

TensorView BenchmarkTensors::random(DType dtype, Shape shape, double low, double high) {
  const TensorView x = tensors_.emplace_back(Tensor(stream_, dtype, shape));
  fill_with_random(stream_, x, low, high, tensors_.size());
  return x;
}

TensorView BenchmarkTensors::ids(std::int64_t count, std::int64_t vocabulary) {
  const TensorView x = tensors_.emplace_back(Tensor(stream_, DType::i32, {count}));
  const RandomStream draws(tensors_.size(), 0);
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<std::int32_t>(draws.below(i, static_cast<std::uint64_t>(vocabulary)));
  stream_.upload(x.data, values.data(), x.bytes());
  return x;
}

}  // namespace causeway
