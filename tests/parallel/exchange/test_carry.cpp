#include "parallel/exchange/carry.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t states = 3;

/// carry = state + decay ∘ carry, where the summary is [state | decay]. In float, so that another order of additions
/// would give other bits.
void fold(TensorView summary, TensorView carry, std::int64_t) {
  for (std::int64_t i = 0; i < states; ++i)
    carry.row<float>(0)[i] = summary.row<float>(0)[i] + summary.row<float>(0)[states + i] * carry.row<float>(0)[i];
}

/// The reference: the state that each chunk receives, computed chunk after chunk.
std::vector<double> sequential(const Sharding& sharding, Direction direction, TensorView summaries) {
  const Stream stream;
  const int count = sharding.layout().chunk_count();
  const Tensor carries = Tensor::zeros(stream, DType::f32, {count, states});
  for (int step = 1; step < count; ++step) {
    const bool right = direction == Direction::rightwards;
    const int to = right ? step : count - 1 - step, from = right ? to - 1 : to + 1;
    const CarryPlan::ChunkEdges &target = sharding.carry_plan().chunks[static_cast<std::size_t>(to)],
                                &source = sharding.carry_plan().chunks[static_cast<std::size_t>(from)];
    if (!(right ? target.from_left : target.to_right)) continue;
    const TensorView in = carries.view().slice_rows(to, 1), summary = summaries.slice_rows(from, 1);
    stream.copy(in.data, source.one_document ? carries.view().slice_rows(from, 1).data : summary.data, in.bytes());
    if (source.one_document && sharding.layout().chunk(from).size() > 0)
      fold(summary, in, sharding.layout().chunk(from).size());
  }
  return values_of(carries);
}

/// This rank's rows of a tensor that has a row for each chunk.
Tensor rows_of_chunks(const Stream& stream, const Sharding& sharding, TensorView all) {
  Tensor mine(stream, all.dtype, all.shape.with_rows(std::ssize(sharding.chunks())));
  for (std::int64_t i = 0; const Chunk& chunk : sharding.chunks())
    stream.copy(mine.view().slice_rows(i++, 1).data, all.slice_rows(chunk.index, 1).data,
                all.columns() * size_of(all.dtype));
  return mine;
}

class Carry : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Carry, testing::ValuesIn(rank_counts));

TEST_P(Carry, ChainAndGatherGiveTheBitsOfTheSequentialFoldInBothDirections) {
  on_ranks(GetParam(), [](Communicator& world) {
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const NamedPack& pack : awkward_packs(world.size(), layout))
        for (const Direction direction : {Direction::rightwards, Direction::leftwards})
          for (const Schedule schedule : {Schedule::chain, Schedule::gather, Schedule::automatic}) {
            SCOPED_TRACE(fmt::format("{}, {}, {}, {}", name_of(layout), pack.name,
                                     direction == Direction::rightwards ? "right" : "left", name_of(schedule)));
            const Stream stream;
            const Sharding sharding(ShardLayout(pack.segments.tokens(), world.size(), layout), pack.segments,
                                    world.rank());
            const Tensor all = random_tensor(stream, DType::f32, {sharding.layout().chunk_count(), 2 * states}, 9);
            // Summaries of documents that do not continue must not be read.
            for (int c = 0; c < sharding.layout().chunk_count(); ++c) {
              const CarryPlan::ChunkEdges& edge = sharding.carry_plan().chunks[static_cast<std::size_t>(c)];
              if (!(direction == Direction::rightwards ? edge.to_right : edge.from_left))
                all.view().row<float>(c)[0] = std::numeric_limits<float>::quiet_NaN();
            }
            const Tensor summaries = rows_of_chunks(stream, sharding, all);
            const Tensor carries(stream, DType::f32, {std::ssize(sharding.chunks()), states});
            carry({.sharding = sharding,
                   .direction = direction,
                   .schedule = schedule,
                   .summaries = summaries,
                   .carries = carries,
                   .fold = fold},
                  world, stream);
            const Tensor expected = tensor_of(stream, DType::f32, {sharding.layout().chunk_count(), states},
                                              sequential(sharding, direction, all));
            EXPECT_TRUE(same_bits(carries, rows_of_chunks(stream, sharding, expected)));
          }
  });
}

TEST_P(Carry, ChainSendsOneStatePerEdgeThatADocumentCrosses) {
  on_ranks(GetParam(), [](Communicator& world) {
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const NamedPack& pack : awkward_packs(world.size(), layout)) {
        SCOPED_TRACE(fmt::format("{}, {}", name_of(layout), pack.name));
        const Stream stream;
        const Sharding sharding(ShardLayout(pack.segments.tokens(), world.size(), layout), pack.segments, world.rank());
        const Tensor summaries = Tensor::zeros(stream, DType::f32, {std::ssize(sharding.chunks()), 2 * states});
        const Tensor carries(stream, DType::f32, {std::ssize(sharding.chunks()), states});
        std::int64_t edges = 0, crossings = 0;
        for (int c = 0; c + 1 < sharding.layout().chunk_count(); ++c) {
          const bool crossed = sharding.carry_plan().chunks[static_cast<std::size_t>(c)].to_right &&
                               sharding.layout().owner(c + 1) != sharding.layout().owner(c);
          crossings += crossed;
          edges += crossed && sharding.layout().owner(c) == world.rank();
        }
        const auto sent = [&](Schedule schedule) {
          const Traffic before = world.traffic();
          carry({.sharding = sharding, .schedule = schedule, .summaries = summaries, .carries = carries, .fold = fold},
                world, stream);
          return std::pair(world.traffic().bytes_sent - before.bytes_sent,
                           world.traffic().messages_sent - before.messages_sent);
        };
        EXPECT_EQ(sent(Schedule::chain), std::pair(edges * states * 4, edges));
        const std::int64_t others = crossings == 0 ? 0 : world.size() - 1;
        EXPECT_EQ(sent(Schedule::gather), std::pair(others * summaries.view().bytes(), others));
      }
  });
}

TEST(Schedules, ChainIsCheaperForLargeStatesOrFewHopsAndGatherOtherwise) {
  const std::int64_t tokens = 8000;
  const auto choice = [&](Segments segments, Layout layout, std::int64_t bytes) {
    return cheaper_schedule(Sharding(ShardLayout(tokens, 8, layout), std::move(segments), 0), bytes,
                            bytes + bytes / 16);
  };
  for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
    EXPECT_EQ(choice(Segments::one_document(tokens), layout, 1 << 10), Schedule::gather) << "latency dominates";
    EXPECT_EQ(choice(Segments::one_document(tokens), layout, 64 << 20), Schedule::chain) << "bytes dominate";
    EXPECT_EQ(choice(Segments({0, 1500, 3500, 5500, tokens}), layout, 1 << 20), Schedule::chain)
        << "no chain is longer than one hop";
    EXPECT_EQ(choice(Segments({0, 4000, tokens}), layout, 0), Schedule::gather);
  }
}

TEST(Schedules, ARelayIsCheaperIfItsWaitsAreShortBesideTheSummariesOfAllLayers) {
  const std::int64_t tokens = 8000, state = 1 << 18;
  const auto choice = [&](int ranks, int layers, Segments segments, Layout layout = Layout::contiguous) {
    Sharding sharding(ShardLayout(tokens, ranks, layout), std::move(segments), 0);
    sharding.set_one_way_layers(layers);
    return cheaper_schedule(sharding, state, state + state / 16);
  };
  const auto one = [&] { return Segments::one_document(tokens); };
  EXPECT_NE(choice(2, 1, one()), Schedule::relay) << "a scan is longer than a summary";
  EXPECT_EQ(choice(2, 8, one()), Schedule::relay);
  EXPECT_EQ(choice(3, 8, one()), Schedule::relay);
  EXPECT_NE(choice(8, 8, one()), Schedule::relay);
  EXPECT_EQ(choice(8, 48, one()), Schedule::relay);
  EXPECT_NE(choice(64, 48, one()), Schedule::relay);
  EXPECT_NE(choice(2, 48, one(), Layout::zigzag), Schedule::relay);
  EXPECT_NE(choice(2, 8, Segments({0, 3900, 4100, tokens})), Schedule::relay) << "the summaries are short";
  EXPECT_NE(choice(2, 8, Segments({0, 4000, tokens})), Schedule::relay) << "nothing crosses the edge";
}

/// A scan whose state of a chunk is 2·(state that enters) + the chunk's index, and that records the chunks.
TEST_P(Carry, ARelayScansTheChunksInTheirOrderWithTheStatesThatTheScansBeforeWrote) {
  on_ranks(GetParam(), [](Communicator& world) {
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const NamedPack& pack : awkward_packs(world.size(), layout))
        for (const Direction direction : {Direction::rightwards, Direction::leftwards}) {
          const bool right = direction == Direction::rightwards;
          SCOPED_TRACE(fmt::format("{}, {}, {}", name_of(layout), pack.name, right ? "right" : "left"));
          const Stream stream;
          const Sharding sharding(ShardLayout(pack.segments.tokens(), world.size(), layout), pack.segments,
                                  world.rank());
          const auto edges = [&](int c) { return sharding.carry_plan().chunks[static_cast<std::size_t>(c)]; };
          const int count = sharding.layout().chunk_count();
          std::vector<float> entering(static_cast<std::size_t>(count)), after(static_cast<std::size_t>(count));
          for (int step = 0; step < count; ++step) {
            const int c = right ? step : count - 1 - step, before = right ? c - 1 : c + 1;
            const auto at = static_cast<std::size_t>(c);
            if (right ? edges(c).from_left : edges(c).to_right) entering[at] = after[static_cast<std::size_t>(before)];
            const bool empty = sharding.layout().chunk(c).size() == 0;
            after[at] = empty ? entering[at] : 2 * entering[at] + static_cast<float>(c);
          }
          const Tensor carries(stream, DType::f32, {std::ssize(sharding.chunks()), 1});
          std::vector<int> scanned, expected_scans;
          run_relay({.sharding = sharding,
                     .direction = direction,
                     .carries = carries,
                     .scan =
                         [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
                           scanned.push_back(chunk.index);
                           const CarryPlan::ChunkEdges edge = edges(chunk.index);
                           EXPECT_EQ(carry.present(), right ? edge.from_left : edge.to_right);
                           EXPECT_EQ(leaving.present(), right ? edge.to_right : edge.from_left);
                           if (leaving.present())
                             leaving.row<float>(0)[0] =
                                 (carry.present() ? 2 * carry.row<float>(0)[0] : 0) + static_cast<float>(chunk.index);
                         }},
                    world, stream);
          for (const Chunk& chunk : sharding.chunks())
            if (chunk.tokens.size() > 0)
              expected_scans.insert(right ? expected_scans.end() : expected_scans.begin(), chunk.index);
          EXPECT_EQ(scanned, expected_scans);
          for (std::int64_t i = 0; const Chunk& chunk : sharding.chunks())
            EXPECT_EQ(carries.view().row<float>(i++)[0], entering[static_cast<std::size_t>(chunk.index)]);
        }
  });
}

TEST(Schedules, NamesAreParsedAndOthersRefused) {
  for (const Schedule schedule : {Schedule::automatic, Schedule::chain, Schedule::gather, Schedule::relay})
    EXPECT_EQ(parse_schedule(name_of(schedule)), schedule);
  EXPECT_THROW(parse_schedule("tree"), Error);
}

}  // namespace
}  // namespace causeway::test
