#include "src/train/data/pack_sequence.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "kernels/core/error.hpp"
#include "tests/src/train/data/numbered_dataset.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::vector<Pack> take(PackSequence& packs, int count) {
  std::vector<Pack> taken;
  for (int i = 0; i < count; ++i) taken.push_back(packs.next());
  return taken;
}

TEST(PackSequence, ResumesFromAnyCursor) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  write_dataset(folder / "b.h5", {9, 9, 9});
  const DataMixture data = DataMixture::open({folder / "a.h5", (folder / "b.h5") + ":0.5"}, 512);
  for (const PackingPolicy& policy : packing_policies()) {
    const PackingOptions options{.policy = policy.name, .pack_tokens = 32, .window = 4};
    PackSequence whole(data, options, 1);
    const std::vector<Pack> all = take(whole, 60);
    for (const int cursor : {0, 1, 17, 59}) {
      PackSequence resumed(data, options, 1);
      resumed.advance_to(cursor);
      EXPECT_EQ(resumed.cursor(), cursor);
      EXPECT_EQ(take(resumed, 60 - cursor), std::vector<Pack>(all.begin() + cursor, all.end())) << policy.name;
    }
    PackSequence other(data, options, 2);
    EXPECT_NE(take(other, 60), all) << policy.name;
  }
}

TEST(PackSequence, EveryTokenComesOnceInEachEpochInANewOrder) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  const DataMixture data = DataMixture::open({folder / "a.h5"}, 512);
  PackSequence packs(data, {.policy = "in_order", .pack_tokens = 32}, 1);
  std::vector<std::vector<Piece>> epochs(3);
  std::int64_t tokens = 0;
  while (tokens < 3 * 204)
    for (const Piece& piece : packs.next().pieces) {
      if (tokens < 3 * 204) epochs[static_cast<std::size_t>(tokens / 204)].push_back(piece);
      tokens += piece.size();
    }
  for (const auto& epoch : epochs) {
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (const Piece& piece : epoch)
      for (std::int64_t i = piece.begin; i < piece.end; ++i) EXPECT_TRUE(seen.insert({piece.document, i}).second);
    EXPECT_EQ(seen.size(), 204u);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(PackSequence, CountsThePacksOfEpochs) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  write_dataset(folder / "b.h5", {9, 9, 9});
  const DataMixture one = DataMixture::open({folder / "a.h5"}, 512),
                    two = DataMixture::open({folder / "a.h5", folder / "b.h5"}, 512);
  for (const DataMixture* data : {&one, &two})
    for (const PackingPolicy& policy : packing_policies())
      for (const double epochs : {0.1, 1.0, 2.5}) {
        const PackingOptions options{.policy = policy.name, .pack_tokens = 32, .window = 4};
        const double asked = epochs * static_cast<double>(data->tokens());
        PackSequence counted(*data, options, 1), taken(*data, options, 1);
        const std::int64_t packs = counted.advance_by_tokens(asked, [](std::int64_t) {});
        double tokens = 0, last = 0;
        for (const Pack& pack : take(taken, static_cast<int>(packs))) {
          last = static_cast<double>(pack.tokens());
          tokens += last;
        }
        EXPECT_GE(tokens, asked) << policy.name;
        EXPECT_LT(tokens - last, asked) << policy.name << ": a pack more than needed";
      }
}

TEST(PackSequence, DrawsDocumentsByWeight) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {10, 10});
  write_dataset(folder / "b.h5", {10, 10, 10});
  const DataMixture data = DataMixture::open({(folder / "a.h5") + ":3", (folder / "b.h5") + ":1"}, 512);
  PackSequence packs(data, {.policy = "in_order", .pack_tokens = 10}, 1);
  std::map<std::int32_t, int> drawn;
  for (int i = 0; i < 4000; ++i) ++drawn[packs.next().pieces.front().dataset];
  EXPECT_NEAR(drawn[0], 3000, 120);
}

TEST(PackSequence, WeightsOfAnySizeGiveTheSameDrawsAsTheirRatio) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {10, 10});
  write_dataset(folder / "b.h5", {10, 10, 10});
  const auto drawn = [&](const char* a, const char* b) {
    const DataMixture data = DataMixture::open({(folder / "a.h5") + ":" + a, (folder / "b.h5") + ":" + b}, 512);
    PackSequence packs(data, {.policy = "in_order", .pack_tokens = 10}, 1);
    return take(packs, 200);
  };
  const std::vector<Pack> even = drawn("1", "1");
  for (const char* weight : {"1e308", "1.7e308", "1e-308", "4e-320"})  // their sum overflows, or is subnormal
    EXPECT_EQ(drawn(weight, weight), even) << weight;
  for (const auto& [a, b] : {std::pair("1", "1e-20"), {"1e308", "1e-308"}, {"1e-308", "1"}})
    EXPECT_THROW(drawn(a, b), Error) << a << " " << b;
}

TEST(PackSequence, CanBeStoppedWhileItPlans) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  const DataMixture data = DataMixture::open({folder / "a.h5"}, 512);
  struct Stop {};
  for (const PackingPolicy& policy : packing_policies()) {
    int calls = 0;
    const auto stop = [&] {
      if (++calls == 3) throw Stop();
    };
    PackSequence packs(data, {.policy = policy.name, .pack_tokens = std::int64_t{1} << 40}, 1, stop);
    if (policy.name != "first_fit_decreasing") {
      EXPECT_THROW(packs.next(), Stop) << policy.name;  // a pack that never becomes full
    } else {
      EXPECT_THROW(packs.advance_to(std::int64_t{1} << 40), Stop) << policy.name;
    }
    EXPECT_EQ(calls, 3);
  }
}

}  // namespace
}  // namespace causeway::test
