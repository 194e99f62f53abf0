#include "io/data/dataset.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;
using Tokens = std::vector<std::int32_t>;

void write_dataset(const std::string& path, const std::vector<Tokens>& documents, std::int64_t vocabulary = 512) {
  DatasetWriter writer(path, vocabulary, "test");
  for (std::size_t d = 0; d < documents.size(); ++d) {
    writer.begin_document("document " + std::to_string(d));
    writer.append(documents[d]);
  }
  writer.finish();
}

/// The code and text of the error that a call throws.
struct Failure {
  ExitCode code = ExitCode::ok;
  std::string what;
};
Failure failure_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}
Failure failure_of_reading(const std::string& path) {
  return failure_of([&] { Dataset(path).verify(); });
}

TEST(Dataset, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const RandomStream random(1, 2);
  for (const std::int64_t vocabulary : {512, 65536, 65537, 1 << 30}) {
    std::vector<Tokens> documents = {{}, Tokens(1), Tokens(200'000), {}, Tokens(70)};
    std::uint64_t draw = 0;
    for (auto& document : documents)
      for (auto& token : document)
        token = static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(vocabulary)));
    write_dataset(folder / "data.h5", documents, vocabulary);
    const Dataset dataset(folder / "data.h5");
    ASSERT_EQ(dataset.documents(), 5);
    EXPECT_EQ(dataset.tokens(), 200'071);
    EXPECT_EQ(dataset.vocabulary_size(), vocabulary);
    EXPECT_FALSE(dataset.has_loss_mask());
    for (std::int64_t d = 0; d < 5; ++d) {
      const auto begin = dataset.cu_seqlens()[static_cast<std::size_t>(d)];
      Tokens read(static_cast<std::size_t>(dataset.cu_seqlens()[static_cast<std::size_t>(d) + 1] - begin));
      dataset.read_tokens(begin, read);
      EXPECT_EQ(read, documents[static_cast<std::size_t>(d)]);
      EXPECT_EQ(dataset.name(d), "document " + std::to_string(d));
    }
    dataset.verify();
    const auto file = hdf5::File::open(folder / "data.h5", hdf5::Access::read);
    EXPECT_EQ(file.dataset("tokens").type(), vocabulary <= 65536 ? hdf5::u16 : hdf5::u32);
    EXPECT_EQ(file.integer_attribute("max_length"), 200'000);
    EXPECT_EQ(file.integer_attribute("min_length"), 0);
    EXPECT_EQ(file.number_attribute("mean_length"), 200'071 / 5.0);
    const auto histogram = file.dataset("statistics/length_histogram").read_all<std::int64_t>(65);
    EXPECT_EQ(histogram.size(), 19u);
    EXPECT_EQ(histogram[0], 2);
    EXPECT_EQ(histogram[1], 1);
    EXPECT_EQ(histogram[7], 1);
    EXPECT_EQ(histogram[18], 1);
  }
  EXPECT_EQ(folder.count(), 1u);
}

TEST(Dataset, KeepsTheLossMaskBesideTheTokens) {
  const TemporaryFolder folder;
  std::vector<std::uint8_t> mask(100'000);
  for (std::size_t t = 0; t < mask.size(); ++t) mask[t] = t % 3 == 0;
  {
    DatasetWriter writer(folder / "data.h5", 512, "test", {.loss_mask = true});
    writer.begin_document("a");
    writer.append(Tokens(mask.size(), 65), mask);
    writer.finish();
  }
  const Dataset dataset(folder / "data.h5");
  ASSERT_TRUE(dataset.has_loss_mask());
  std::vector<std::uint8_t> read(mask.size() - 10);
  dataset.read_loss_mask(10, read);
  EXPECT_TRUE(std::equal(read.begin(), read.end(), mask.begin() + 10));
}

TEST(Dataset, KeepsLossWeightsWhichTheMaskSetsTo0) {
  const TemporaryFolder folder;
  std::vector<float> weights(100'000);
  std::vector<std::uint8_t> mask(weights.size());
  for (std::size_t t = 0; t < weights.size(); ++t) {
    weights[t] = static_cast<float>(t % 11) / 10;
    mask[t] = t % 3 == 0 ? 0 : 7;
  }
  for (const bool masked : {false, true}) {
    const std::string path = folder / "data.h5";
    DatasetWriter writer(path, 512, "test", {.loss_mask = masked, .loss_weights = true});
    writer.begin_document("a");
    writer.append(Tokens(weights.size(), 65), masked ? std::span<const std::uint8_t>(mask) : std::span<std::uint8_t>(),
                  weights);
    writer.finish();
    const Dataset dataset(path);
    ASSERT_TRUE(dataset.has_loss_weights());
    EXPECT_EQ(dataset.has_loss_mask(), masked);
    std::vector<float> read(weights.size() - 10), of_labels(read.size());
    dataset.read_loss_weights(10, read);
    dataset.read_label_weights(10, of_labels);
    for (std::size_t t = 0; t < read.size(); ++t) {
      ASSERT_EQ(read[t], weights[t + 10]);
      ASSERT_EQ(of_labels[t], masked && mask[t + 10] == 0 ? 0 : weights[t + 10]);
    }
    dataset.verify();
    EXPECT_EQ(hdf5::File::open(path, hdf5::Access::read).dataset("loss_weight").type(), hdf5::f32);
  }
}

TEST(Dataset, LossWeightsOutsideOf0To1AreRefusedByNameWhereTheyAreWrittenAndRead) {
  const TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  for (const float wrong : {std::nanf(""), -0.1F, 1.5F, std::numeric_limits<float>::infinity()}) {
    DatasetWriter writer(path, 512, "test", {.loss_weights = true});
    writer.begin_document("a");
    writer.append(Tokens(4, 65), {}, std::vector<float>{0, 1, -0.0F, 0.5F});
    const Failure written = failure_of([&] { writer.append(Tokens(2, 65), {}, std::vector<float>{1, wrong}); });
    EXPECT_EQ(written.code, ExitCode::usage);
    EXPECT_NE(written.what.find("data.h5:/loss_weight: value 5 is "), std::string::npos) << written.what;
    writer.finish();
    { hdf5::File::open(path, hdf5::Access::update).dataset("loss_weight").write_rows<float>(3, std::vector{wrong}); }
    const Failure read = failure_of_reading(path);
    EXPECT_EQ(read.code, ExitCode::usage);
    EXPECT_NE(read.what.find("data.h5:/loss_weight: value 3 is "), std::string::npos) << read.what;
  }
}

TEST(Dataset, LossWeightsOfAnotherFormAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  const auto refused_with = [&](const auto& values) {
    write_dataset(path, {Tokens(3, 65)});
    using T = typename std::decay_t<decltype(values)>::value_type;
    hdf5::File::open(path, hdf5::Access::update)
        .write<T>("loss_weight", {static_cast<std::int64_t>(values.size())}, std::span<const T>(values));
    return failure_of([&] { const Dataset opened(path); }).what;
  };
  EXPECT_NE(refused_with(std::vector<float>(4)).find("has 4 values, expected 3 as in /tokens"), std::string::npos);
  EXPECT_NE(refused_with(std::vector<std::uint8_t>(3)).find("holds u8, expected f32 or other floats"),
            std::string::npos);
  EXPECT_EQ(refused_with(std::vector<double>{0.25, 0.5, 1}), "");
}

TEST(Dataset, LeavesNoFileWithoutFinish) {
  const TemporaryFolder folder;
  folder.write("kept.h5", "what was there before");
  for (const std::string name : {"fresh.h5", "kept.h5"}) {
    DatasetWriter writer(folder / name, 512, "test");
    writer.begin_document("a");
    writer.append(Tokens(300'000, 1));
    EXPECT_EQ(failure_of([&] { writer.append(Tokens{1, 512}); }).code, ExitCode::usage);
  }
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(testing::bytes_of(folder / "kept.h5"), "what was there before");
}

TEST(Dataset, WritesTheSameBytesForTheSameData) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {Tokens(1000, 5), {}, Tokens(3, 7)});
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 would note seconds
  write_dataset(folder / "b.h5", {Tokens(1000, 5), {}, Tokens(3, 7)});
  EXPECT_TRUE(testing::bytes_of(folder / "a.h5") == testing::bytes_of(folder / "b.h5"));
}

TEST(Dataset, AFlippedByteInTheTokensNamesTheDataset) {
  const TemporaryFolder folder;
  const RandomStream random(5, 5);
  Tokens tokens(100'000);
  for (std::size_t t = 0; t < tokens.size(); ++t) tokens[t] = static_cast<std::int32_t>(random.below(t, 512));
  write_dataset(folder / "good.h5", {tokens});
  std::string bytes = testing::bytes_of(folder / "good.h5");
  // The middle of the file is in the compressed tokens, which are most of it.
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  const Failure failure = failure_of_reading(folder.write("bad.h5", bytes));
  EXPECT_EQ(failure.code, ExitCode::corrupt);
  EXPECT_NE(failure.what.find("bad.h5:/tokens"), std::string::npos) << failure.what;
}

TEST(Dataset, EveryFlippedByteIsDetectedOrHarmless) {
  const TemporaryFolder folder;
  const std::vector<Tokens> documents = {Tokens(300, 65), {}, Tokens(70, 66)};
  write_dataset(folder / "good.h5", documents);
  const std::string good = testing::bytes_of(folder / "good.h5");
  const RandomStream random(11, 0);
  int noticed = 0;
  constexpr int rounds = 1500;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = good;
    const auto at = random.below(2 * round, bytes.size());
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(2 * round + 1, 8)));
    const std::string path = folder.write("bad.h5", bytes);
    const Failure failure = failure_of_reading(path);
    if (failure.code != ExitCode::ok) {
      ++noticed;
      EXPECT_NE(failure.what.find("bad.h5"), std::string::npos) << failure.what;
      EXPECT_TRUE(failure.code == ExitCode::usage || failure.code == ExitCode::corrupt || failure.code == ExitCode::io)
          << failure.what;
      continue;
    }
    const Dataset dataset(path);
    Tokens tokens(static_cast<std::size_t>(dataset.tokens()));
    dataset.read_tokens(0, tokens);
    ASSERT_EQ(dataset.tokens(), 370) << "byte " << at;
    for (std::size_t t = 0; t < tokens.size(); ++t) ASSERT_EQ(tokens[t], t < 300 ? 65 : 66) << "byte " << at;
  }
  EXPECT_GT(noticed, rounds / 10);  // most bytes of so small a file are unused
}

TEST(Dataset, EveryTruncationIsAnError) {
  const TemporaryFolder folder;
  write_dataset(folder / "good.h5", {Tokens(3000, 65), Tokens(70, 66)});
  const std::string good = testing::bytes_of(folder / "good.h5");
  for (std::size_t size = 0; size < good.size(); size += 37) {
    const Failure failure = failure_of_reading(folder.write("bad.h5", std::string_view(good).substr(0, size)));
    ASSERT_TRUE(failure.code == ExitCode::corrupt || failure.code == ExitCode::usage) << size << ": " << failure.what;
  }
}

/// A file that is wrong in one way, and a part of the expected error.
struct WrongFile {
  std::string name;
  std::function<void(hdf5::File&)> make;
  std::string expected;
  ExitCode code = ExitCode::usage;
};

void replace(hdf5::File& file, const std::string& name, const std::vector<std::int64_t>& values) {
  file.remove(name);
  file.write<std::int64_t>(name, {static_cast<std::int64_t>(values.size())}, values);
}

const std::vector<WrongFile>& wrong_files() {
  static const std::vector<WrongFile> table = {
      {"NoTokens", [](hdf5::File& f) { f.remove("tokens"); }, "/tokens: is missing"},
      {"NoBoundaries", [](hdf5::File& f) { f.remove("cu_seqlens"); }, "/cu_seqlens: is missing"},
      {"NoNames", [](hdf5::File& f) { f.remove("names"); }, "/names: is missing"},
      {"OtherFormat", [](hdf5::File& f) { f.set_attribute("format", std::string("causeway-checkpoint")); },
       "is not a dataset"},
      {"LaterVersion", [](hdf5::File& f) { f.set_attribute("version", std::int64_t{2}); }, "has version 2, expected 1"},
      {"NoVocabulary", [](hdf5::File& f) { f.set_attribute("vocabulary_size", std::int64_t{0}); },
       "vocabulary_size is 0"},
      {"TextVocabulary", [](hdf5::File& f) { f.set_attribute("vocabulary_size", std::string("many")); },
       "vocabulary_size is not an integer"},
      {"SmallVocabulary", [](hdf5::File& f) { f.set_attribute("vocabulary_size", std::int64_t{60}); },
       "/tokens: value 0 is 65, expected less than vocabulary_size 60", ExitCode::corrupt},
      {"BoundariesPastTheEnd",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {0, 300, 371});
       },
       "/tokens: has 370 values, expected 371"},
      {"BoundariesTooShort",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {0, 300});
       },
       "/tokens: has 370 values, expected 300"},
      {"BoundariesDecrease",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {0, 400, 370});
       },
       "/cu_seqlens: value 2 is 370 after 400"},
      {"BoundariesNegative",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {0, -1, 370});
       },
       "/cu_seqlens: value 1 is -1 after 0"},
      {"BoundariesStartLate",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {1, 300, 370});
       },
       "/cu_seqlens: starts at 1"},
      {"NoBoundaryAtAll", [](hdf5::File& f) { replace(f, "cu_seqlens", {}); }, "/cu_seqlens: is empty"},
      {"MoreDocumentsThanNames",
       [](hdf5::File& f) {
         replace(f, "cu_seqlens", {0, 100, 300, 370});
       },
       "/names: has 2 names, expected 3"},
      {"FloatTokens",
       [](hdf5::File& f) {
         f.remove("tokens");
         f.write<float>("tokens", {370}, std::vector<float>(370));
       },
       "/tokens: holds f32"},
      {"SignedTokens", [](hdf5::File& f) { replace(f, "tokens", std::vector<std::int64_t>(370, 65)); },
       "/tokens: holds i64"},
      {"FlatTokens",
       [](hdf5::File& f) {
         f.remove("tokens");
         f.write<std::uint16_t>("tokens", {37, 10}, std::vector<std::uint16_t>(370));
       },
       "/tokens: has 2 dimensions"},
      {"NumericNames",
       [](hdf5::File& f) {
         replace(f, "names", {1, 2});
       },
       "/names: holds i64"},
      {"FloatBoundaries",
       [](hdf5::File& f) {
         f.remove("cu_seqlens");
         f.write<double>("cu_seqlens", {3}, std::vector<double>{0, 300, 370});
       },
       "/cu_seqlens: holds f64"},
      {"ShortLossMask", [](hdf5::File& f) { f.write<std::uint8_t>("loss_mask", {3}, std::vector<std::uint8_t>(3)); },
       "/loss_mask: has 3 values, expected 370"},
      {"GroupForTokens",
       [](hdf5::File& f) {
         f.remove("tokens");
         f.create_group("tokens");
       },
       "/tokens: is not a dataset"},
      {"ImmenseTokens",
       [](hdf5::File& f) {
         f.remove("tokens");
         f.create_dataset("tokens", {.shape = {std::int64_t{1} << 50}, .type = hdf5::u16, .chunk_rows = 1 << 16});
       },
       "/tokens: has a shape of 1125899906842624 values but only 0 stored bytes"},
      {"ImmenseBoundaries",
       [](hdf5::File& f) {
         f.remove("cu_seqlens");
         f.create_dataset("cu_seqlens", {.shape = {std::int64_t{1} << 40}, .type = hdf5::i64, .chunk_rows = 1 << 16});
       },
       "/cu_seqlens: has a shape of"},
      {"ImmenseChunk",
       [](hdf5::File& f) {
         f.remove("tokens");
         f.create_dataset("tokens", {.shape = {370}, .type = hdf5::u16, .chunk_rows = 1 << 30});
       },
       "/tokens: a chunk has 2147483648 bytes"},
  };
  return table;
}

class EveryWrongFile : public ::testing::TestWithParam<WrongFile> {};
INSTANTIATE_TEST_SUITE_P(Dataset, EveryWrongFile, ::testing::ValuesIn(wrong_files()),
                         [](const auto& row) { return row.param.name; });

TEST_P(EveryWrongFile, IsAnErrorThatNamesTheDataset) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", {Tokens(300, 65), Tokens(70, 66)});
  {
    auto file = hdf5::File::open(folder / "data.h5", hdf5::Access::update);
    GetParam().make(file);
    file.close();
  }
  const Failure failure = failure_of_reading(folder / "data.h5");
  EXPECT_EQ(failure.code, GetParam().code);
  EXPECT_NE(failure.what.find(GetParam().expected), std::string::npos) << failure.what;
}

TEST(Dataset, AMissingFileAndAnotherFormatAreUsageErrors) {
  const TemporaryFolder folder;
  EXPECT_EQ(failure_of_reading(folder / "absent.h5").code, ExitCode::usage);
  EXPECT_EQ(failure_of_reading(folder / "").code, ExitCode::usage);
  EXPECT_EQ(failure_of_reading(folder.write("text.h5", ">a\nACGT\n")).code, ExitCode::usage);
  EXPECT_EQ(failure_of_reading(folder.write("empty.h5", "")).code, ExitCode::usage);
}

TEST(Dataset, RefusesRangesOutsideTheTokens) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", {Tokens(300, 65)});
  const Dataset dataset(folder / "data.h5");
  Tokens out(10);
  for (const std::int64_t begin : {std::int64_t{-1}, std::int64_t{291}, std::int64_t{300}, INT64_MAX, INT64_MIN})
    EXPECT_EQ(failure_of([&] { dataset.read_tokens(begin, out); }).code, ExitCode::usage) << begin;
  dataset.read_tokens(300, {});
  dataset.read_tokens(290, out);
}

}  // namespace
}  // namespace causeway
