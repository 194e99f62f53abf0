#include "src/train/data/pack_on_rank.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/src/train/data/numbered_dataset.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

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
