#include "io/data/split.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

struct Document {
  std::string name;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> loss_mask;
  bool operator==(const Document&) const = default;
};

void write(const std::string& path, const std::vector<Document>& documents, bool masked) {
  DatasetWriter writer(path, 8, "test", masked);
  for (const Document& document : documents) {
    writer.begin_document(document.name);
    writer.append(document.tokens, document.loss_mask);
  }
  writer.finish();
}

std::vector<Document> read(const std::string& path) {
  const Dataset data(path);
  std::vector<Document> documents;
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    const std::int64_t begin = data.cu_seqlens()[static_cast<std::size_t>(d)];
    const auto size = static_cast<std::size_t>(data.cu_seqlens()[static_cast<std::size_t>(d) + 1] - begin);
    Document document{data.name(d), std::vector<std::int32_t>(size),
                      std::vector<std::uint8_t>(data.has_loss_mask() ? size : 0)};
    data.read_tokens(begin, document.tokens);
    if (data.has_loss_mask()) data.read_loss_mask(begin, document.loss_mask);
    documents.push_back(std::move(document));
  }
  return documents;
}

TEST(Split, PutsTheLastTokensInValidAndCutsTheDocumentAtTheBoundary) {
  const TemporaryFolder folder;
  write(
      folder / "data.h5",
      {{"", {}, {}}, {"a", {1, 2, 3}, {1, 1, 1}}, {"none", {}, {}}, {"b", {4, 5, 6, 7}, {1, 0, 1, 0}}, {"c", {1}, {1}}},
      true);
  const DatasetSplit split = split_dataset(Dataset(folder / "data.h5"), 0.5, folder / "train.h5", folder / "valid.h5");
  EXPECT_EQ(read(folder / "train.h5"), (std::vector<Document>{{"a", {1, 2, 3}, {1, 1, 1}}, {"b", {4}, {1}}}));
  EXPECT_EQ(read(folder / "valid.h5"), (std::vector<Document>{{"b:1", {5, 6, 7}, {0, 1, 0}}, {"c", {1}, {1}}}));
  EXPECT_EQ(split.train_tokens, 4);
  EXPECT_EQ(split.train_documents, 2);
  EXPECT_EQ(split.valid_tokens, 4);
  EXPECT_EQ(split.valid_documents, 2);
}

TEST(Split, CutsNoDocumentWhenTheBoundaryIsBetweenTwo) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"a", {1, 2}, {}}, {"b", {3, 4}, {}}}, false);
  split_dataset(Dataset(folder / "data.h5"), 0.5, folder / "train.h5", folder / "valid.h5");
  EXPECT_EQ(read(folder / "train.h5"), (std::vector<Document>{{"a", {1, 2}, {}}}));
  EXPECT_EQ(read(folder / "valid.h5"), (std::vector<Document>{{"b", {3, 4}, {}}}));
}

TEST(Split, CopiesLongDocumentsWhole) {
  const TemporaryFolder folder;
  std::vector<std::int32_t> tokens(3'000'001);
  for (std::size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<std::int32_t>(t * t % 7);
  write(folder / "data.h5", {{"long", tokens, {}}}, false);
  split_dataset(Dataset(folder / "data.h5"), 0.1, folder / "train.h5", folder / "valid.h5");
  auto joined = read(folder / "train.h5").at(0).tokens;
  const auto held_out = read(folder / "valid.h5").at(0).tokens;
  EXPECT_EQ(held_out.size(), 300'000u);
  joined.insert(joined.end(), held_out.begin(), held_out.end());
  EXPECT_EQ(joined, tokens);
}

TEST(Split, TheUnigramLossUsesTrainFrequenciesAndUnmaskedValidLabels) {
  const TemporaryFolder folder;
  // Labels of the train part: 2, 2, 3. Of the valid part: 2 and 5; its first token is no label, its last is masked.
  write(folder / "data.h5", {{"a", {1, 2, 2, 3}, {1, 1, 1, 1}}, {"b", {7, 2, 5, 6}, {1, 1, 1, 0}}}, true);
  const DatasetSplit split = split_dataset(Dataset(folder / "data.h5"), 0.5, folder / "train.h5", folder / "valid.h5");
  EXPECT_NEAR(split.unigram_loss, -(std::log(3 / 11.0) + std::log(1 / 11.0)) / 2, 1e-14);
}

TEST(Split, RefusesEmptyPartsAndReplacingItsSource) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"a", {1, 2, 3}, {}}}, false);
  const Dataset data(folder / "data.h5");
  for (const double held_out : {-0.5, 0.0, 0.01, 0.99, 1.0, std::nan("")})
    EXPECT_THROW(split_dataset(data, held_out, folder / "train.h5", folder / "valid.h5"), Error) << held_out;
  EXPECT_THROW(split_dataset(data, 0.5, folder / "data.h5", folder / "valid.h5"), Error);
  EXPECT_THROW(split_dataset(data, 0.5, folder / "train.h5", folder / "./data.h5"), Error);
  EXPECT_EQ(folder.count(), 1u);
}

}  // namespace
}  // namespace causeway
