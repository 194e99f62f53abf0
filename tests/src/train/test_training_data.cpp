#include "src/train/training_data.hpp"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Documents of the given lengths; token i of the whole dataset is i mod 500, its mask i mod 3, its weight
/// (i mod 5) / 4.
void write_dataset(const std::string& path, const std::vector<std::int64_t>& lengths, LabelLists lists = {}) {
  DatasetWriter writer(path, 512, "test", lists);
  std::int64_t token = 0;
  for (const std::int64_t length : lengths) {
    writer.begin_document("d");
    for (std::int64_t i = 0; i < length; ++i, ++token) {
      const std::int32_t id = static_cast<std::int32_t>(token % 500);
      const std::uint8_t mask = static_cast<std::uint8_t>(token % 3);
      const float weight = static_cast<float>(token % 5) / 4;
      writer.append({&id, 1}, lists.loss_mask ? std::span(&mask, 1) : std::span<const std::uint8_t>(),
                    lists.loss_weights ? std::span(&weight, 1) : std::span<const float>());
    }
  }
  writer.finish();
}

const std::vector<std::int64_t> lengths{3, 0, 40, 1, 7, 100, 12, 5, 5, 31};

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

TEST(DataMixture, WeightsOfAnySizeGiveTheSameDrawsAsTheirRatio) {
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

TEST(DataMixture, RefusesPacksThatWouldOnlyRepeatTheData) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  const DataMixture data = DataMixture::open({folder / "a.h5"}, 512);
  data.refuse_too_large_packs(8192);
  data.refuse_too_large_packs(1 << 20);
  EXPECT_THROW(data.refuse_too_large_packs(std::int64_t{1} << 40), Error);
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

TEST(DataMixture, RefusesDatasetsThatCannotBeTrainedOn) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {10});
  write_dataset(folder / "empty.h5", {0, 0});
  for (const std::string& source : {(folder / "a.h5") + ":0", (folder / "a.h5") + ":-1", (folder / "a.h5") + ":inf",
                                    (folder / "a.h5") + ":x", folder / "empty.h5", folder / "nowhere.h5"})
    EXPECT_THROW(DataMixture::open({source}, 512), Error) << source;
  EXPECT_THROW(DataMixture::open({folder / "a.h5"}, 511), Error);
  EXPECT_THROW(DataMixture::open({}, 512), Error);
}

TEST(ReadBatch, TheRanksTogetherReadThePackItsLabelsAndTheirWeights) {
  const TemporaryFolder folder;
  for (const auto& [masked, weighted] : {std::pair(false, false), {true, false}, {false, true}, {true, true}}) {
    write_dataset(folder / "a.h5", lengths, {.loss_mask = masked, .loss_weights = weighted});
    const DataMixture data = DataMixture::open({folder / "a.h5"}, 512);
    const Pack pack{{{0, 5, 10, 60}, {0, 3, 0, 1}, {0, 0, 0, 3}, {0, 9, 1, 31}}};
    std::vector<std::int32_t> ids, labels;
    std::vector<float> weights;
    for (const Piece& piece : pack.pieces)
      for (std::int64_t i = piece.begin; i < piece.end; ++i) {
        const std::int64_t token = data.datasets[0].cu_seqlens()[piece.document] + i;
        ids.push_back(static_cast<std::int32_t>(token % 500));
        const bool labelled =
            i + 1 < piece.end && (!masked || (token + 1) % 3 != 0) && (!weighted || (token + 1) % 5 != 0);
        labels.push_back(labelled ? static_cast<std::int32_t>((token + 1) % 500) : -1);
        weights.push_back(!labelled ? 0 : weighted ? static_cast<float>((token + 1) % 5) / 4 : 1);
      }
    for (const int ranks : {1, 2, 3, 4, 7, 100})
      for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
        std::vector<std::int32_t> found_ids(ids.size()), found_labels(ids.size());
        std::vector<float> found_weights(ids.size());
        std::int64_t labelled = 0;
        double weight_sum = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          const Sharding sharding(ShardLayout(pack.tokens(), ranks, layout), segments_of(pack), rank);
          const HostBatch batch = read_batch(data, pack, sharding);
          for (const Chunk& chunk : sharding.chunks()) {
            std::copy_n(batch.ids.begin() + chunk.first_row, chunk.tokens.size(),
                        found_ids.begin() + chunk.tokens.begin);
            std::copy_n(batch.labels.begin() + chunk.first_row, chunk.tokens.size(),
                        found_labels.begin() + chunk.tokens.begin);
            if (weighted)
              std::copy_n(batch.weights.begin() + chunk.first_row, chunk.tokens.size(),
                          found_weights.begin() + chunk.tokens.begin);
          }
          EXPECT_EQ(batch.weights.size(), weighted ? batch.ids.size() : 0);
          labelled += batch.labelled;
          weight_sum += batch.weight_sum;
        }
        EXPECT_EQ(found_ids, ids) << ranks;
        EXPECT_EQ(found_labels, labels) << ranks;
        EXPECT_EQ(found_weights, weighted ? weights : std::vector<float>(ids.size())) << ranks;
        EXPECT_EQ(weight_sum, std::accumulate(weights.begin(), weights.end(), 0.0));
        EXPECT_EQ(labelled, std::count_if(labels.begin(), labels.end(), [](std::int32_t label) { return label >= 0; }));
      }
  }
}

TEST(ReadBatch, LabelsOfADatasetWithoutWeightsWeigh1BesideOneThatHasThem) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {10}, {.loss_weights = true});
  write_dataset(folder / "b.h5", {5});
  const DataMixture data = DataMixture::open({folder / "a.h5", folder / "b.h5"}, 512);
  const Pack pack{{{0, 0, 0, 5}, {1, 0, 0, 5}}};
  const HostBatch batch =
      read_batch(data, pack, Sharding(ShardLayout(10, 1, Layout::contiguous), segments_of(pack), 0));
  EXPECT_EQ(batch.weights, (std::vector<float>{0.25F, 0.5F, 0.75F, 1, 0, 1, 1, 1, 1, 0}));
  EXPECT_EQ(batch.labelled, 8);
  EXPECT_EQ(batch.weight_sum, 6.5);
}

}  // namespace
}  // namespace causeway::test
