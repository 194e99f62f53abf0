#include "kernels/embedding.hpp"

#include <algorithm>

#include "kernels/cpu/elementwise.hpp"

namespace causeway::cpu {
namespace {

/// The ids, checked: tokens come from files, and an id past the table would read or write somebody else's memory.
std::span<const std::int32_t> checked_ids(TensorView ids, std::int64_t vocabulary) {
  const std::span<const std::int32_t> all = ids.as<std::int32_t>();
  const auto wrong = std::find_if(all.begin(), all.end(), [&](std::int32_t id) { return id < 0 || id >= vocabulary; });
  if (wrong != all.end())
    fail(ExitCode::usage, "token {} is id {}, expected 0 to {} (the vocabulary's last)", wrong - all.begin(), *wrong, vocabulary - 1);
  return all;
}

}  // namespace

void embedding_forward(const Stream&, const EmbeddingForward& args) {
  const auto [ids_view, weight, y] = args;
  const auto ids = checked_ids(ids_view, weight.rows());
  const std::int64_t tokens = y.rows(), channels = weight.columns();
  ensure(tokens == static_cast<std::int64_t>(ids.size()) && y.columns() == channels, "embedding of {} ids in {} into {}", ids.size(),
         weight.shape.to_string(), y.shape.to_string());
  ensure(y.dtype == weight.dtype || y.dtype == accumulator_of(weight.dtype), "embedding from {} to {}", name_of(weight.dtype), name_of(y.dtype));
  dispatch(weight.dtype, [&]<class W>() {
    dispatch(y.dtype, [&]<class Y>() {
      if constexpr (std::is_same_v<Y, W> || std::is_same_v<Y, Accumulator<W>>) {
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * run_length)
        for (std::int64_t t = 0; t < tokens; ++t) std::copy_n(weight.row<W>(ids[static_cast<std::size_t>(t)]), channels, y.row<Y>(t));
      }
    });
  });
}

void embedding_backward(const Stream&, const EmbeddingBackward& args) {
  const auto [ids_view, d_y, d_weight] = args;
  const auto ids = checked_ids(ids_view, d_weight.rows());
  const std::int64_t tokens = d_y.rows(), channels = d_weight.columns();
  ensure(tokens == static_cast<std::int64_t>(ids.size()) && d_y.columns() == channels, "embedding backward of {} ids, {} into {}", ids.size(),
         d_y.shape.to_string(), d_weight.shape.to_string());
  ensure(d_weight.dtype == accumulator_of(d_y.dtype), "embedding backward from {} to {}", name_of(d_y.dtype), name_of(d_weight.dtype));
  // A thread owns columns, not tokens: each table entry then sums in token order, and a DNA pack, all of whose tokens share four rows, still
  // divides evenly.
  constexpr std::int64_t width = 64;
  dispatch(d_y.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * run_length)
    for (std::int64_t column = 0; column < channels; column += width) {
      const std::int64_t count = std::min(width, channels - column);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const T* from = d_y.row<T>(t) + column;
        Wide* sum = d_weight.row<Wide>(ids[static_cast<std::size_t>(t)]) + column;
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) sum[i] += static_cast<Wide>(from[i]);
      }
    }
  });
}

}  // namespace causeway::cpu
