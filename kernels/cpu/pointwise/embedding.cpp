#include "kernels/embedding.hpp"

#include <algorithm>

#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {
namespace {

/// Checks the ids: tokens come from files, and an id outside the vocabulary would access memory outside the table.
std::span<const std::int32_t> checked_ids(TensorView ids, std::int64_t vocabulary) {
  const std::span<const std::int32_t> all = ids.as<std::int32_t>();
  const auto wrong = std::find_if(all.begin(), all.end(), [&](std::int32_t id) { return id < 0 || id >= vocabulary; });
  if (wrong != all.end())
    fail(ExitCode::usage, "token {} is id {}, expected 0 to {}, the last id of the vocabulary", wrong - all.begin(),
         *wrong, vocabulary - 1);
  return all;
}

/// Copies the rows of the tokens' ids.
template <class From, class To>
void gather(const EmbeddingForward& args, std::span<const std::int32_t> ids) {
  const std::int64_t tokens = args.y.rows(), channels = args.y.columns();
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * span_length)
  for (std::int64_t t = 0; t < tokens; ++t)
    std::copy_n(args.weight.row<From>(ids[static_cast<std::size_t>(t)]), channels, args.y.row<To>(t));
}

/// A thread takes columns, not tokens. So each row of the table is summed in the order of the tokens, and the work is
/// divided evenly even for DNA, whose tokens all use four rows.
template <class T>
void scatter_add(const EmbeddingBackward& args, std::span<const std::int32_t> ids) {
  using Wide = Accumulator<T>;
  constexpr std::int64_t width = 64;
  const std::int64_t tokens = args.d_y.rows(), channels = args.d_y.columns();
#pragma omp parallel for schedule(static) if (tokens * channels > 4 * span_length)
  for (std::int64_t column = 0; column < channels; column += width) {
    const std::int64_t count = std::min(width, channels - column);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const T* d_y = args.d_y.row<T>(t) + column;
      Wide* sum = args.d_weight.row<Wide>(ids[static_cast<std::size_t>(t)]) + column;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) sum[i] += static_cast<Wide>(d_y[i]);
    }
  }
}

}  // namespace

void embedding_forward(const Stream&, const EmbeddingForward& args) {
  const DType narrow = args.weight.dtype, wide = accumulator_of(narrow);
  expect("embedding's y", args.y, args.y.dtype == wide ? wide : narrow, {args.ids.rows(), args.weight.columns()});
  const auto ids = checked_ids(args.ids, args.weight.rows());
  dispatch(narrow, [&]<class T>() {
    if (args.y.dtype == wide)
      gather<T, Accumulator<T>>(args, ids);
    else
      gather<T, T>(args, ids);
  });
}

void embedding_backward(const Stream&, const EmbeddingBackward& args) {
  expect("embedding backward's d_y", args.d_y, args.d_y.dtype, {args.ids.rows(), args.d_weight.columns()});
  expect("embedding backward's d_weight", args.d_weight, accumulator_of(args.d_y.dtype), args.d_weight.shape);
  const auto ids = checked_ids(args.ids, args.d_weight.rows());
  dispatch(args.d_y.dtype, [&]<class T>() { scatter_add<T>(args, ids); });
}

}  // namespace causeway::cpu
