#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

/// Between a whole pack, which tests compare, and the shards, which strategies work on.
namespace causeway::test {

struct NamedPack {
  std::string name;
  Segments segments;
};

/// Packs that have broken context parallelism before: none or one token, fewer tokens than ranks, shards shorter than a
/// filter, a document over all ranks, documents that start on every edge between ranks, one token before and after it,
/// documents of one token, empty ones, random ones.
std::vector<NamedPack> awkward_packs(int ranks, Layout layout);

struct RandomPack {
  ShardLayout layout;
  Segments segments;
};

/// Hundreds of packs, by these layouts in turn: 0 to 60 tokens on 1 to 9 ranks, documents of every kind, many ranks
/// without a token.
std::vector<RandomPack> random_packs(std::span<const Layout> layouts);

/// This rank's rows of a whole pack's tensor [tokens, …], chunk after chunk.
Tensor local_rows(const Stream& stream, const Sharding& sharding, TensorView whole);
/// The whole pack's values, row-major, with this rank's rows where they belong and zeros elsewhere: what has to be
/// summed over the ranks.
std::vector<double> own_part(const Sharding& sharding, TensorView local);
/// Element-wise sum over the ranks.
std::vector<double> summed(Communicator& ranks, std::span<const double> values);

}  // namespace causeway::test
