#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

/// Converts between a whole pack, which tests compare, and the shards that strategies work on.
namespace causeway::test {

struct NamedPack {
  std::string name;
  Segments segments;
};

/// Packs that are difficult for context parallelism: no or one token, fewer tokens than ranks, shards shorter than a
/// filter, a document over all ranks, documents that start at every boundary between ranks or one token before or after
/// it, documents of one token, empty ones, random ones.
std::vector<NamedPack> awkward_packs(int ranks, Layout layout);

struct RandomPack {
  ShardLayout layout;
  Segments segments;
};

/// Hundreds of packs, in these layouts in turn: 0 to 60 tokens on 1 to 9 ranks, documents of all kinds, many ranks
/// without a token.
std::vector<RandomPack> random_packs(std::span<const Layout> layouts);

/// This rank's rows of a whole pack's tensor [tokens, …], one chunk after the other.
Tensor local_rows(const Stream& stream, const Sharding& sharding, TensorView whole);
/// Values of a whole pack, row-major: this rank's rows at their global tokens, zeros elsewhere. Their sum over the
/// ranks is the whole pack.
std::vector<double> own_part(const Sharding& sharding, TensorView local);
/// Element-wise sum over the ranks.
std::vector<double> summed(Communicator& ranks, std::span<const double> values);

}  // namespace causeway::test
