#include "tests/support/shards.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/random.hpp"
#include "kernels/reorder.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {

std::vector<NamedPack> awkward_packs(int ranks, Layout layout) {
  const std::int64_t n = ranks;
  const auto one = [](std::int64_t tokens) { return Segments::one_document(tokens); };
  std::vector<NamedPack> packs = {
      {"no token", one(0)},
      {"one token", one(1)},
      {"fewer tokens than ranks", one(std::max<std::int64_t>(1, n - 1))},
      {"one or two tokens a rank", Segments({0, 1, n + 1, n + 2})},
      {"a document over all ranks", one(23 * n + 5)},
      {"a document over all ranks between two short ones", Segments({0, 2, 2, 23 * n, 23 * n + 3, 23 * n + 3})}};
  const std::int64_t tokens = 19 * n + 3;
  const ShardLayout shards(tokens, ranks, layout);
  for (const std::int64_t shift : {-1, 0, 1}) {
    std::vector<std::int64_t> boundaries{0};
    for (int c = 1; c < shards.chunk_count(); ++c) boundaries.push_back(shards.chunk(c).begin + shift);
    boundaries.push_back(tokens);
    packs.push_back({fmt::format("documents start at every boundary {:+}", shift), Segments(std::move(boundaries))});
  }
  std::vector<std::int64_t> ones;
  for (std::int64_t t = 0; t <= 4 * n; ++t) ones.push_back(t);
  packs.push_back({"documents of one token", Segments(std::move(ones))});
  // A shard has more tokens than a block of the scan.
  packs.push_back({"long documents", Segments({0, 67, 80 * n / 2 + 30, 80 * n})});
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    packs.push_back(
        {fmt::format("random {}", seed), random_segments((7 + 11 * static_cast<std::int64_t>(seed)) * n + 2, seed)});
  return packs;
}

std::vector<RandomPack> random_packs(std::span<const Layout> layouts) {
  std::vector<RandomPack> packs;
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    const RandomStream random(12, seed);
    const auto tokens = static_cast<std::int64_t>(random.below(0, seed % 3 == 0 ? 9 : 61));
    packs.push_back({ShardLayout(tokens, 1 + static_cast<int>(random.below(1, 9)), layouts[seed % layouts.size()]),
                     seed % 5 == 0 ? Segments::one_document(tokens) : random_segments(tokens, seed)});
  }
  return packs;
}

Tensor local_rows(const Stream& stream, const Sharding& sharding, TensorView whole) {
  Tensor local(stream, whole.dtype, whole.shape.with_rows(sharding.local_tokens()));
  std::vector<RowRange> ranges;
  for (const Chunk& chunk : sharding.chunks())
    ranges.push_back({.from = chunk.tokens.begin, .to = chunk.first_row, .count = chunk.tokens.size()});
  copy_rows(stream, {.x = whole, .ranges = ranges, .y = local});
  return local;
}

std::vector<double> own_part(const Sharding& sharding, TensorView local) {
  std::vector<double> whole;
  const std::vector<double> rows = values_of(local);
  const std::int64_t columns = local.columns();
  whole.resize(static_cast<std::size_t>(sharding.layout().tokens() * columns));
  for (const Chunk& chunk : sharding.chunks())
    std::copy_n(rows.begin() + chunk.first_row * columns, chunk.tokens.size() * columns,
                whole.begin() + chunk.tokens.begin * columns);
  return whole;
}

std::vector<double> summed(Communicator& ranks, std::span<const double> values) {
  std::vector<double> sum(values.begin(), values.end());
  ranks.all_reduce(view_of(sum.data(), DType::f64, {std::ssize(sum)}), Reduction::sum, Stream());
  return sum;
}

}  // namespace causeway::test
