#include "io/data/identity.hpp"

#include <gtest/gtest.h>

#include <set>

#include "io/data/dataset_writer.hpp"

#include "io/hdf5/hdf5.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

struct Content {
  std::vector<std::vector<std::int32_t>> documents{{1, 2, 3}, {}, {4, 5}};
  std::vector<std::vector<std::uint8_t>> masks;  ///< none: no loss mask
  std::vector<std::vector<float>> weights;       ///< none: no loss weights
  std::int64_t vocabulary = 512;
  std::string name = "d";
};

std::string write(const std::string& path, const Content& content) {
  DatasetWriter writer(path, content.vocabulary, "test",
                       {.loss_mask = !content.masks.empty(), .loss_weights = !content.weights.empty()});
  for (std::size_t d = 0; d < content.documents.size(); ++d) {
    writer.begin_document(content.name);
    writer.append(content.documents[d],
                  content.masks.empty() ? std::span<const std::uint8_t>() : std::span(content.masks[d]),
                  content.weights.empty() ? std::span<const float>() : std::span(content.weights[d]));
  }
  writer.finish();
  const Dataset data(path);
  EXPECT_EQ(data.stated_identity(), computed_identity(data));
  return identity_of(data);
}

TEST(DatasetIdentity, DependsOnTokensBoundariesMaskAndWeightsOnly) {
  const TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  const std::string identity = write(path, {});
  EXPECT_EQ(identity.size(), 64u);
  EXPECT_EQ(write(path, {.name = "another name"}), identity);
  EXPECT_EQ(write(path, {.vocabulary = 100'000}), identity);  // stored as u32
  const std::vector<std::vector<std::uint8_t>> mask{{1, 0, 1}, {}, {1, 1}};
  const std::string masked = write(path, {.masks = mask});
  EXPECT_EQ(write(path, {.masks = {{7, 0, 255}, {}, {1, 2}}}), masked);  // what is not 0 counts
  const std::vector<std::vector<float>> weights{{1, 0, 0.1F}, {}, {1, 0.5F}}, same{{1, -0.0F, 0.1F}, {}, {1, 0.5F}};
  const std::string weighted = write(path, {.weights = weights});
  EXPECT_EQ(write(path, {.weights = same}), weighted);
  const std::vector<Content> others{
      {.masks = mask, .weights = weights},    {.weights = {{1, 0, 0.1F}, {}, {1, 0.25F}}},
      {.weights = {{1, 1, 1}, {}, {1, 1}}},   {.documents = {{1, 2, 3}, {}, {4, 6}}},
      {.documents = {{1, 2, 3}, {4, 5}}},     {.documents = {{1, 2}, {}, {3, 4, 5}}},
      {.documents = {{4, 5}, {}, {1, 2, 3}}}, {.documents = {{1, 2, 3}, {}, {4, 5}}, .masks = {{1, 1, 1}, {}, {1, 0}}}};
  std::set<std::string> all{identity, masked, weighted};
  for (const Content& other : others) EXPECT_TRUE(all.insert(write(path, other)).second);
}

// Computed with hashlib and struct of Python, by the formula in identity.hpp: an identity that is stored in a file or a
// checkpoint must not change.
TEST(DatasetIdentity, IsThatOfItsFormula) {
  const TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  EXPECT_EQ(write(path, {}), "ed6d08c8a83f5c3235cb3981412ff4b1d80c4744fa3ebaea2352eccca1f50a4c");
  EXPECT_EQ(write(path, {.masks = {{1, 0, 1}, {}, {7, 1}}}),
            "764c74bb92bc1275574185ad768893088f69b1b0dd1d114be545b6b561b7d385");
  EXPECT_EQ(write(path, {.weights = {{1, -0.0F, 0.1F}, {}, {1, 0.5F}}}),
            "b75c0a240e4fda15a9067d99d2755dcad01ab3a31a005d73062f9cbb798efc98");
}

TEST(DatasetIdentity, IsTheSameForManyChunks) {
  const TemporaryFolder folder;
  std::vector<std::int32_t> tokens(200'000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 7 % 500);
  write(folder / "data.h5", {.documents = {tokens, std::vector<std::int32_t>(70'000, 3), {1}}});
}

TEST(DatasetIdentity, IsComputedWhereTheFileStatesNoneAndVerifiedWhereItLies) {
  const TemporaryFolder folder;
  const std::string identity = write(folder / "data.h5", {});
  {
    auto file = hdf5::File::open(folder / "data.h5", hdf5::Access::update);
    file.set_attribute("identity", std::string(64, '0'));
  }
  EXPECT_EQ(identity_of(Dataset(folder / "data.h5")), std::string(64, '0'));
  try {
    verify_identity(Dataset(folder / "data.h5"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::corrupt);
    EXPECT_NE(std::string(error.what()).find(identity), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway::test
