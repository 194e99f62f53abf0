#include "parallel/exchange/distributed_fft.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <numeric>
#include <set>

#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

using Complex = std::complex<double>;
constexpr std::int64_t channels = 3;

Complex unit(std::int64_t index, std::int64_t modulus) {
  return std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(index % modulus) / static_cast<double>(modulus));
}

TEST(ButterflyPlan, EachResidueClassOfFrequenciesIsOnOneRank) {
  for (int ranks = 1; ranks <= 60; ++ranks) {
    std::set<std::int64_t> residues;
    for (int position = 0; position < ranks; ++position) residues.insert(plan_butterflies(ranks, position).residue);
    EXPECT_EQ(std::ssize(residues), ranks);
    EXPECT_EQ(*residues.begin(), 0);
    EXPECT_EQ(*residues.rbegin(), ranks - 1);
  }
}

TEST(ButterflyPlan, RanksThatExchangeListEachOtherInTheSameStage) {
  for (int ranks = 1; ranks <= 60; ++ranks)
    for (int position = 0; position < ranks; ++position) {
      const ButterflyPlan plan = plan_butterflies(ranks, position);
      std::int64_t product = 1;
      for (std::size_t s = 0; s < plan.stages.size(); ++s) {
        const Butterfly& stage = plan.stages[s];
        product *= std::ssize(stage.branches);
        EXPECT_EQ(stage.branches.at(static_cast<std::size_t>(stage.own)).rank, position);
        for (const Butterfly::Branch& branch : stage.branches) {
          const ButterflyPlan other = plan_butterflies(ranks, branch.rank);
          EXPECT_EQ(other.stages.at(s).branches.at(static_cast<std::size_t>(stage.own)).rank, position);
        }
      }
      EXPECT_EQ(product, ranks);
    }
}

/// The points of one rank in a transform of ranks·S points, and its spectrum by the definition.
struct Points {
  int ranks = 1, position = 0;
  std::int64_t rows = 1;

  std::int64_t length() const { return ranks * rows; }
  Tensor whole(const Stream& stream, DType dtype) const {
    return random_tensor(stream, dtype, {length(), channels, 2}, 3);
  }
  /// The rows of `whole` that this rank holds.
  Tensor mine(const Stream& stream, TensorView whole) const {
    Tensor x(stream, whole.dtype, whole.shape.with_rows(rows));
    stream.copy(x.view().data, whole.slice_rows(position * rows, rows).data, x.view().bytes());
    return x;
  }
  /// This rank's frequencies, by the definition of the transform.
  std::vector<double> spectrum(TensorView whole) const {
    const std::vector<double> x = values_of(whole);
    std::vector<double> result;
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t d = 0; d < channels; ++d) {
        const std::int64_t k = plan_butterflies(ranks, position).residue + row * ranks;
        Complex sum = 0;
        for (std::int64_t j = 0; j < length(); ++j) {
          const auto at = static_cast<std::size_t>((j * channels + d) * 2);
          sum += Complex(x[at], x[at + 1]) * unit(-j * k, length());
        }
        result.insert(result.end(), {sum.real(), sum.imag()});
      }
    return result;
  }
};

std::vector<int> first_ranks(int count) {
  std::vector<int> ranks(static_cast<std::size_t>(count));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

class FftOverRanks : public testing::TestWithParam<int> {
 protected:
  /// Runs body(world, stream, points, ranks) on shards of several lengths, including odd and prime ones.
  template <class Body>
  void for_every_shard(Body body) {
    on_ranks(GetParam(), [&](Communicator& world) {
      for (const std::int64_t rows : {1, 2, 3, 8, 13, 30}) {
        SCOPED_TRACE(fmt::format("{} rows per rank", rows));
        body(world, Stream(), Points{world.size(), world.rank(), rows}, first_ranks(world.size()));
      }
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, FftOverRanks, testing::Range(1, 9));

TEST_P(FftOverRanks, ForwardEqualsTheDefinition) {
  for_every_shard([](Communicator& world, const Stream& stream, const Points& points, const std::vector<int>& ranks) {
    for (const auto& [dtype, tolerance] : {std::pair(DType::f64, 1e-13), std::pair(DType::f32, 1e-6)}) {
      const Tensor whole = points.whole(stream, dtype), x = points.mine(stream, whole);
      const DistributedFft transforms[] = {{.ranks = ranks, .x = x}};
      distributed_fft(transforms, FftDirection::forward, world, stream);
      EXPECT_LE(relative_error(values_of(x), points.spectrum(whole)), tolerance) << name_of(dtype);
    }
  });
}

TEST_P(FftOverRanks, InverseAfterForwardIsTheLengthTimesTheIdentity) {
  for_every_shard([](Communicator& world, const Stream& stream, const Points& points, const std::vector<int>& ranks) {
    const Tensor x = points.mine(stream, points.whole(stream, DType::f64));
    std::vector<double> expected = values_of(x);
    for (double& value : expected) value *= static_cast<double>(points.length());
    const DistributedFft transforms[] = {{.ranks = ranks, .x = x}};
    distributed_fft(transforms, FftDirection::forward, world, stream);
    distributed_fft(transforms, FftDirection::inverse, world, stream);
    EXPECT_LE(relative_error(values_of(x), expected), 1e-14);
  });
}

TEST_P(FftOverRanks, InverseIsTheAdjointOfForward) {
  for_every_shard([](Communicator& world, const Stream& stream, const Points& points, const std::vector<int>& ranks) {
    const Shape shape{points.rows, channels, 2};
    const auto seed = static_cast<std::uint64_t>(world.rank());
    const Tensor x = random_tensor(stream, DType::f64, shape, seed),
                 y = random_tensor(stream, DType::f64, shape, 100 + seed);
    const Tensor Fx = converted(stream, x, DType::f64), FTy = converted(stream, y, DType::f64);
    const DistributedFft forward[] = {{.ranks = ranks, .x = Fx}}, adjoint[] = {{.ranks = ranks, .x = FTy}};
    distributed_fft(forward, FftDirection::forward, world, stream);
    distributed_fft(adjoint, FftDirection::inverse, world, stream);
    const double forward_product = world.sum(dot(Fx, y)), adjoint_product = world.sum(dot(x, FTy));
    const double scale = std::sqrt(world.sum(dot(Fx, Fx)) * world.sum(dot(y, y)));
    EXPECT_LE(std::abs(forward_product - adjoint_product), 1e-14 * scale);
  });
}

TEST_P(FftOverRanks, SendsAWholeShardToEachOfTheOtherBranches) {
  for_every_shard([](Communicator& world, const Stream& stream, const Points& points, const std::vector<int>& ranks) {
    const std::int64_t branches[] = {0, 0, 1, 2, 2, 4, 3, 6, 3};  // Σ (p-1) over the prime factors of 0 … 8
    const std::int64_t peers = branches[world.size()];
    for (const DType dtype : {DType::f64, DType::f32})
      for (const FftDirection direction : {FftDirection::forward, FftDirection::inverse}) {
        const Tensor x = points.mine(stream, points.whole(stream, dtype));
        const DistributedFft transforms[] = {{.ranks = ranks, .x = x}};
        const Traffic before = world.traffic();
        distributed_fft(transforms, direction, world, stream);
        const std::int64_t expected = peers * points.rows * channels * (dtype == DType::f64 ? 16 : 8);
        EXPECT_EQ(world.traffic().bytes_sent - before.bytes_sent, expected);
        EXPECT_EQ(distributed_fft_bytes(world.size(), points.rows, channels, dtype), expected);
        EXPECT_EQ(world.traffic().messages_sent - before.messages_sent, peers);
      }
  });
}

TEST_P(FftOverRanks, TransformsThatShareARankGiveTheSameBitsTogetherAndSeparately) {
  on_ranks(GetParam(), [](Communicator& world) {
    // Groups of 2, 3, 4, … ranks, where neighbouring groups share one rank, and a group with only rank 0.
    std::vector<std::vector<int>> groups{{0}};
    for (int begin = 0, size = 2; begin + 1 < world.size(); begin += size - 1, ++size) {
      std::vector<int>& group = groups.emplace_back();
      for (int rank = begin; rank < std::min(begin + size, world.size()); ++rank) group.push_back(rank);
    }
    const Stream stream;
    for (const FftDirection direction : {FftDirection::forward, FftDirection::inverse}) {
      std::vector<Tensor> together, separate;
      std::vector<DistributedFft> transforms;
      for (const std::vector<int>& group : groups) {
        const auto found = std::find(group.begin(), group.end(), world.rank());
        if (found == group.end()) continue;
        const auto seed = static_cast<std::uint64_t>(100 * group.size()) + static_cast<std::uint64_t>(world.rank());
        const Shape shape{static_cast<std::int64_t>(group.size()) + 3, channels, 2};
        separate.push_back(random_tensor(stream, DType::f32, shape, seed));
        together.push_back(random_tensor(stream, DType::f32, shape, seed));
        transforms.push_back({.ranks = group, .x = together.back()});
      }
      distributed_fft(transforms, direction, world, stream);
      for (std::size_t i = 0; i < transforms.size(); ++i) {
        const DistributedFft one[] = {{.ranks = transforms[i].ranks, .x = separate[i]}};
        distributed_fft(one, direction, world, stream);
        EXPECT_TRUE(same_bits(separate[i], together[i])) << i;
      }
    }
  });
}

TEST(DistributedFft, RefusesARankThatIsNotInTheTransform) {
  on_ranks(1, [](Communicator& world) {
    const Stream stream;
    const Tensor x = Tensor::zeros(stream, DType::f32, {4, channels, 2});
    const int others[] = {1, 2};
    const DistributedFft transforms[] = {{.ranks = others, .x = x}};
    EXPECT_THROW(distributed_fft(transforms, FftDirection::forward, world, stream), Error);
  });
}

}  // namespace
}  // namespace causeway::test
