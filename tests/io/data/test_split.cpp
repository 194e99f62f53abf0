#include "io/data/split.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

struct Document {
  std::string name;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> loss_mask;
  std::vector<float> loss_weights;
  bool operator==(const Document&) const = default;
};

void write(const std::string& path, const std::vector<Document>& documents, bool masked) {
  const bool weighted = std::ranges::any_of(documents, [](const Document& d) { return !d.loss_weights.empty(); });
  DatasetWriter writer(path, 8, "test", {.loss_mask = masked, .loss_weights = weighted});
  for (const Document& document : documents) {
    writer.begin_document(document.name);
    writer.append(document.tokens, document.loss_mask, document.loss_weights);
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
                      std::vector<std::uint8_t>(data.has_loss_mask() ? size : 0),
                      std::vector<float>(data.has_loss_weights() ? size : 0)};
    data.read_tokens(begin, document.tokens);
    if (data.has_loss_mask()) data.read_loss_mask(begin, document.loss_mask);
    if (data.has_loss_weights()) data.read_loss_weights(begin, document.loss_weights);
    documents.push_back(std::move(document));
  }
  return documents;
}

/// Splits folder/data.h5 into train.h5, valid.h5 and, with `test`, test.h5.
DatasetSplit divide(const TemporaryFolder& folder, SplitOptions options, bool test = false) {
  options.train = folder / "train.h5";
  options.valid = folder / "valid.h5";
  if (test) options.test = folder / "test.h5";
  options.force = true;
  return split_dataset(folder / "data.h5", options);
}

std::string refusal_of(const std::function<void()>& call, ExitCode code = ExitCode::usage) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "";
}

/// Documents named by their number, of 1 to `longest` tokens; token t of document d is (d + t) % 8.
std::vector<Document> numbered_documents(int count, std::uint64_t longest, bool masked = false) {
  std::vector<Document> documents;
  for (int d = 0; d < count; ++d) {
    Document document{std::to_string(d), {}, {}};
    const std::uint64_t length = 1 + RandomStream(9, 9).below(static_cast<std::uint64_t>(d), longest);
    for (std::uint64_t t = 0; t < length; ++t) {
      document.tokens.push_back(static_cast<std::int32_t>((static_cast<std::uint64_t>(d) + t) % 8));
      if (masked) document.loss_mask.push_back(t % 3 != 0);
      if (masked) document.loss_weights.push_back(static_cast<float>((d + t) % 5) / 4);
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

TEST(Split, HoldsOutWholeDocumentsInTheirOrder) {
  const TemporaryFolder folder;
  std::vector<Document> documents = numbered_documents(500, 60, true);
  documents.insert(documents.begin() + 7, {"none", {}, {}});
  write(folder / "data.h5", documents, true);
  for (const bool test : {false, true}) {
    const DatasetSplit split = divide(folder, {.held_out = 0.1, .seed = 3}, test);
    EXPECT_EQ(split.empty_documents, 1);
    ASSERT_EQ(split.parts.size(), test ? 3u : 2u);
    std::vector<Document> joined;
    for (const SplitPart& part : split.parts) {
      const std::vector<Document> found = read(part.path);
      const auto number = [](const Document& document) { return std::stoi(document.name); };
      EXPECT_TRUE(std::ranges::is_sorted(found, {}, number));
      joined.insert(joined.end(), found.begin(), found.end());
      EXPECT_EQ(part.documents, std::ssize(found));
      const double fraction = static_cast<double>(part.tokens) / static_cast<double>(split.tokens);
      EXPECT_NEAR(fraction, part.asked, 0.003) << part.name;
      EXPECT_EQ(Dataset(part.path).verify(), std::vector<std::string>());
    }
    std::ranges::sort(joined, {}, [](const Document& document) { return std::stoi(document.name); });
    std::erase_if(documents, [](const Document& document) { return document.tokens.empty(); });
    EXPECT_EQ(joined, documents);
  }
}

TEST(Split, TheSeedDeterminesThePartsOnEveryMachine) {
  const TemporaryFolder folder;
  std::vector<Document> documents;
  for (int d = 0; d < 20; ++d) documents.push_back({std::to_string(d), {1, 2}, {}});
  write(folder / "data.h5", documents, false);
  const auto held_out = [&](std::int64_t seed) {
    divide(folder, {.held_out = 0.2, .seed = seed});
    std::string names;
    for (const Document& document : read(folder / "valid.h5")) names += document.name + " ";
    return names;
  };
  EXPECT_EQ(held_out(0), "2 5 16 17 ");
  EXPECT_EQ(held_out(1), "4 6 10 19 ");
  EXPECT_EQ(held_out(0), "2 5 16 17 ");
}

TEST(Split, BothStrandsOfASequenceAreInOnePart) {
  const TemporaryFolder folder;
  std::vector<Document> documents;
  for (int d = 0; d < 60; ++d)
    for (const char* strand : {"", "/rc"})
      documents.push_back({fmt::format("s{}{}", d, strand), std::vector<std::int32_t>(1 + d % 7, d % 8), {}, {}});
  documents[40].tokens.clear();  // an empty sequence, and its empty complement
  documents[41].tokens.clear();
  write(folder / "data.h5", documents, false);
  for (std::int64_t seed = 0; seed < 5; ++seed) {
    divide(folder, {.held_out = 0.2, .seed = seed, .force = true}, true);
    std::size_t found = 0;
    for (const char* part : {"train.h5", "valid.h5", "test.h5"}) {
      const std::vector<Document> kept = read(folder / part);
      found += kept.size();
      ASSERT_EQ(kept.size() % 2, 0u) << part;
      ASSERT_GT(kept.size(), 0u) << part;
      for (std::size_t d = 0; d < kept.size(); d += 2) EXPECT_EQ(kept[d + 1].name, kept[d].name + "/rc") << part;
    }
    EXPECT_EQ(found, documents.size() - 2);
  }
}

TEST(Split, BothStrandsAreInOnePartAlsoAfterADocumentWithoutItsOther) {
  const TemporaryFolder folder;
  std::vector<Document> documents{{"cut/rc", {1}, {}, {}}};  // as the tail of another split may start
  for (int d = 0; d < 20; ++d)
    for (const char* strand : {"", "/rc"})
      documents.push_back({fmt::format("s{}{}", d, strand), std::vector<std::int32_t>(5, d % 8), {}, {}});
  write(folder / "data.h5", documents, false);
  divide(folder, {.held_out = 0.3});
  for (const char* part : {"train.h5", "valid.h5"}) {
    std::vector<Document> kept = read(folder / part);
    if (kept.front().name == "cut/rc") kept.erase(kept.begin());
    ASSERT_EQ(kept.size() % 2, 0u) << part;
    for (std::size_t d = 0; d < kept.size(); d += 2) EXPECT_EQ(kept[d + 1].name, kept[d].name + "/rc") << part;
  }
}

TEST(Split, EveryPartGetsADocument) {
  const TemporaryFolder folder;
  const auto lengths = [](const std::vector<std::size_t>& sizes) {
    std::vector<Document> documents;
    for (const std::size_t size : sizes) documents.push_back({"d", std::vector<std::int32_t>(size, 1), {}});
    return documents;
  };
  for (const auto& sizes : std::vector<std::vector<std::size_t>>{
           {1000, 10}, {10, 1000}, {100, 100, 100}, {10, 10, 1000}, {1, 1, 1, 1}, {5, 4000, 3, 2}}) {
    write(folder / "data.h5", lengths(sizes), false);
    for (const double held_out : {0.001, 0.1, 0.45})
      for (std::int64_t seed = 0; seed < 6; ++seed)
        for (const bool test : {false, true}) {
          if (test && sizes.size() < 3) continue;
          for (const SplitPart& part : divide(folder, {.held_out = held_out, .seed = seed}, test).parts)
            EXPECT_GT(part.documents, 0) << part.name << " " << held_out << " " << seed;
        }
  }
  write(folder / "data.h5", lengths({1000, 10}), false);
  for (std::int64_t seed = 0; seed < 6; ++seed) EXPECT_EQ(divide(folder, {.seed = seed}).parts[1].tokens, 10);
}

TEST(Split, ByDocumentRefusesFewerDocumentsThanParts) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"a", {1, 2, 3}, {}}, {"none", {}, {}}}, false);
  const std::string refusal = refusal_of([&] { divide(folder, {}); });
  EXPECT_NE(refusal.find("found documents that are not empty: 1, expected at least 2"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("--by tail"), std::string::npos) << refusal;
  write(folder / "data.h5", {{"a", {1, 2, 3}, {}}, {"b", {1}, {}}}, false);
  EXPECT_NE(refusal_of([&] { divide(folder, {}, true); }).find("expected at least 3"), std::string::npos);
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Split, ByTailPutsTheLastTokensInValidAndCutsTheDocumentAtTheBoundary) {
  const TemporaryFolder folder;
  write(
      folder / "data.h5",
      {{"", {}, {}}, {"a", {1, 2, 3}, {1, 1, 1}}, {"none", {}, {}}, {"b", {4, 5, 6, 7}, {1, 0, 1, 0}}, {"c", {1}, {1}}},
      true);
  const DatasetSplit split = divide(folder, {.held_out = 0.5, .by = "tail"});
  EXPECT_EQ(read(folder / "train.h5"), (std::vector<Document>{{"a", {1, 2, 3}, {1, 1, 1}}, {"b", {4}, {1}}}));
  EXPECT_EQ(read(folder / "valid.h5"), (std::vector<Document>{{"b:1", {5, 6, 7}, {0, 1, 0}}, {"c", {1}, {1}}}));
  EXPECT_EQ(split.parts[0].tokens, 4);
  EXPECT_EQ(split.parts[0].documents, 2);
  EXPECT_EQ(split.parts[1].tokens, 4);
  EXPECT_EQ(split.parts[1].documents, 2);
  divide(folder, {.held_out = 0.25, .by = "tail"}, true);
  EXPECT_EQ(read(folder / "train.h5"), (std::vector<Document>{{"a", {1, 2, 3}, {1, 1, 1}}, {"b", {4}, {1}}}));
  EXPECT_EQ(read(folder / "valid.h5"), (std::vector<Document>{{"b:1", {5, 6}, {0, 1}}}));
  EXPECT_EQ(read(folder / "test.h5"), (std::vector<Document>{{"b:3", {7}, {0}}, {"c", {1}, {1}}}));
}

TEST(Split, ByTailCutsNoDocumentWhenTheBoundaryIsBetweenTwo) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"a", {1, 2}, {}}, {"b", {3, 4}, {}}}, false);
  divide(folder, {.held_out = 0.5, .by = "tail"});
  EXPECT_EQ(read(folder / "train.h5"), (std::vector<Document>{{"a", {1, 2}, {}}}));
  EXPECT_EQ(read(folder / "valid.h5"), (std::vector<Document>{{"b", {3, 4}, {}}}));
}

TEST(Split, CopiesLongDocumentsWhole) {
  const TemporaryFolder folder;
  std::vector<std::int32_t> tokens(3'000'001);
  for (std::size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<std::int32_t>(t * t % 7);
  write(folder / "data.h5", {{"long", tokens, {}}, {"short", {1, 2, 3}, {}}}, false);
  divide(folder, {.held_out = 0.1, .by = "tail"});
  auto joined = read(folder / "train.h5").at(0).tokens;
  const auto held_out = read(folder / "valid.h5").at(0).tokens;
  EXPECT_EQ(held_out.size(), 299'997u);
  joined.insert(joined.end(), held_out.begin(), held_out.end());
  EXPECT_EQ(joined, tokens);
  divide(folder, {.held_out = 0.1});
  EXPECT_EQ(read(folder / "train.h5").at(0).tokens, tokens);
}

TEST(Split, TheUnigramLossUsesTrainFrequenciesAndUnmaskedValidLabels) {
  const TemporaryFolder folder;
  // Labels of the train part: 2, 2, 3. Of the valid part: 2 and 5; its first token is no label, its last is masked.
  write(folder / "data.h5", {{"a", {1, 2, 2, 3}, {1, 1, 1, 1}}, {"b", {7, 2, 5, 6}, {1, 1, 1, 0}}}, true);
  const DatasetSplit split = divide(folder, {.held_out = 0.5, .by = "tail"});
  ASSERT_TRUE(split.parts[1].unigram_loss);
  EXPECT_NEAR(*split.parts[1].unigram_loss, -(std::log(3 / 11.0) + std::log(1 / 11.0)) / 2, 1e-14);
  write(folder / "data.h5", {{"a", {1, 2, 2, 3}, {1, 1, 1, 1}}, {"b", {7, 2, 5, 6}, {1, 0, 0, 0}}}, true);
  EXPECT_FALSE(divide(folder, {.held_out = 0.5, .by = "tail"}).parts[1].unigram_loss) << "no label, no mean";
}

TEST(Split, TheUnigramLossCountsLabelsByTheirWeight) {
  const TemporaryFolder folder;
  // Labels of the train part: 2 by 0.5 and 1, 3 by 0.25. Of the valid part: 2 by 1, 5 by 0.5, 6 by 0.
  write(folder / "data.h5", {{"a", {1, 2, 2, 3}, {}, {1, 0.5F, 1, 0.25F}}, {"b", {7, 2, 5, 6}, {}, {1, 1, 0.5F, 0}}},
        false);
  const DatasetSplit split = divide(folder, {.held_out = 0.5, .by = "tail"});
  EXPECT_NEAR(split.parts[1].unigram_loss.value(), -(std::log(2.5 / 9.75) + 0.5 * std::log(1 / 9.75)) / 1.5, 1e-14);
}

TEST(Split, RefusesEmptyPartsAndReplacingItsSource) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"a", {1, 2, 3}, {}}, {"b", {1}, {}}}, false);
  for (const double held_out : {-0.5, 0.0, 1.0, std::nan("")})
    for (const char* by : {"document", "tail"})
      EXPECT_NE(refusal_of([&] { divide(folder, {.held_out = held_out, .by = by}); }), "") << held_out;
  for (const double held_out : {0.01, 0.99})
    EXPECT_NE(refusal_of([&] { divide(folder, {.held_out = held_out, .by = "tail"}); }), "") << held_out;
  EXPECT_NE(refusal_of([&] { divide(folder, {.held_out = 0.5}, true); }).find("less than 0.5"), std::string::npos);
  std::filesystem::create_symlink(folder / "data.h5", folder / "link.h5");
  const std::string data = folder / "data.h5", fresh = folder / "fresh.h5";
  const std::vector<SplitOptions> wrong = {{.train = data, .valid = fresh},
                                           {.train = fresh, .valid = folder / "./data.h5"},
                                           {.train = fresh, .valid = folder / "link.h5"},
                                           {.train = fresh, .valid = fresh},
                                           {.train = fresh, .valid = folder / "./fresh.h5"},
                                           {.train = folder / "t.h5", .valid = fresh, .test = fresh},
                                           {.train = folder / "t.h5", .valid = fresh, .by = "size"},
                                           {.train = folder / "t.h5", .valid = fresh, .seed = -1}};
  for (SplitOptions options : wrong) {
    options.force = true;
    EXPECT_NE(refusal_of([&] { split_dataset(data, options); }), "");
  }
  EXPECT_EQ(folder.count(), 2u);
}

TEST(Split, ReplacesFilesOnlyWhenForced) {
  const TemporaryFolder folder;
  write(folder / "data.h5", numbered_documents(9, 5), false);
  const std::string kept = folder.write("valid.h5", "kept");
  const SplitOptions options{.train = folder / "train.h5", .valid = kept};
  EXPECT_NE(refusal_of([&] { split_dataset(folder / "data.h5", options); }).find("valid.h5: exists; --force"),
            std::string::npos);
  EXPECT_EQ(testing::bytes_of(kept), "kept");
  EXPECT_EQ(folder.count(), 2u);
  divide(folder, {});
  EXPECT_EQ(folder.count(), 3u);
}

TEST(Split, APartThatCannotBeWrittenLeavesNone) {
  const TemporaryFolder folder;
  write(folder / "data.h5", numbered_documents(9, 5), false);
  const SplitOptions options{.train = folder / "train.h5", .valid = folder / "absent/valid.h5"};
  EXPECT_NE(refusal_of([&] { split_dataset(folder / "data.h5", options); }, ExitCode::io), "");
  EXPECT_EQ(folder.count(), 1u);
  // A folder takes the name of the last part while the parts are written.
  SplitOptions late{.train = folder / "train.h5", .valid = folder / "valid.h5"};
  late.progress = [&](std::int64_t, std::int64_t) { std::filesystem::create_directory(folder / "valid.h5"); };
  EXPECT_THROW(split_dataset(folder / "data.h5", late), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "train.h5"));
  EXPECT_EQ(folder.count(), 2u);
}

TEST(Split, DamagedNamesAreFoundAndLeaveNoPart) {
  const TemporaryFolder folder;
  std::vector<Document> documents = numbered_documents(100, 5);
  documents.back().name = "the last name";
  write(folder / "data.h5", documents, false);
  std::string bytes = testing::bytes_of(folder / "data.h5");
  bytes.replace(bytes.find("the last name"), 3, "thy");
  folder.write("data.h5", bytes);
  for (const char* by : {"document", "tail"}) {
    const std::string refusal = refusal_of([&] { divide(folder, {.by = by}); }, ExitCode::corrupt);
    EXPECT_NE(refusal.find("data.h5:/names: the checksum"), std::string::npos) << refusal;
  }
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Split, NamesThatOlderVersionsStoredAsTheyWereAreLatin1) {
  const TemporaryFolder folder;
  write(folder / "data.h5", {{"cafe", {1, 2}, {}}, {"b", {1}, {}}}, false);
  {
    auto file = hdf5::File::open(folder / "data.h5", hdf5::Access::update);
    file.remove("names");
    file.create_dataset("names", {.shape = {2}, .type = hdf5::string})
        .write_strings(0, std::vector<std::string>{"caf\xe9", "b"});
    file.close();
  }
  EXPECT_EQ(Dataset(folder / "data.h5").verify().size(), 1u);
  EXPECT_EQ(divide(folder, {.held_out = 0.3, .by = "tail"}).latin1_names, 1);
  EXPECT_EQ(read(folder / "train.h5").at(0).name, "caf\xc3\xa9");
}

TEST(Split, ProgressEndsAtTheLastToken) {
  const TemporaryFolder folder;
  write(folder / "data.h5", numbered_documents(50, 50), false);
  std::int64_t last = 0, all = 0;
  divide(folder, {.progress = [&](std::int64_t done, std::int64_t tokens) {
           EXPECT_GT(done, last);
           last = done;
           all = tokens;
         }});
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, Dataset(folder / "data.h5").tokens());
}

}  // namespace
}  // namespace causeway
