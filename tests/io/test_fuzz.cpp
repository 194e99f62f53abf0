// Seeded mutations of valid inputs: reading each of them succeeds or throws Error, and leaves no incomplete file.
#include <gtest/gtest.h>

#include "io/data/dataset_writer.hpp"
#include "io/data/import.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

/// A sequence of random numbers.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed, 17) {}
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_.below(index_++, bound); }

 private:
  RandomStream random_;
  std::uint64_t index_ = 0;
};

/// One to four changes: a flipped bit, an overwritten byte, inserted, repeated or removed bytes, a truncation.
std::string mutated(std::string bytes, Dice& dice, std::string_view alphabet) {
  for (std::size_t times = 1 + dice.below(4); times > 0 && !bytes.empty(); --times) {
    const std::size_t at = dice.below(bytes.size()), length = std::min(1 + dice.below(30), bytes.size() - at);
    switch (dice.below(6)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << dice.below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(dice.below(256));
        break;
      case 2:
        bytes.insert(at, 1 + dice.below(5), alphabet[dice.below(alphabet.size())]);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 4:
        bytes.erase(at, length);
        break;
      case 5:
        bytes.resize(at);
        break;
    }
  }
  return bytes;
}

struct Seed {
  std::string name, file, text;
};

const std::vector<Seed>& seeds() {
  static const std::vector<Seed> table = {
      {"Fasta", "a.fa", ">one first\nACGTACGT\nACGTNN\n\n>two\nacgt\n>three\n"},
      {"Fastq", "a.fq", "@r1\nACGT\n+\nIIII\n@r2 x\nAC\n+r2\n!~\n"},
      {"Lines", "a.lines", "one\ntwo\r\n\nthree"},
      {"Jsonl", "a.jsonl",
       "{\"text\": \"one \\u00e4\", \"id\": 12}\n{\"name\": \"x\", \"text\": \"two\", \"n\": {\"a\": [1, 2.5, "
       "null]}}\n"},
      {"FastqWrapped", "a.fq", "@r1\nACGT\nAC\n+\nIII\n@II\n@r2 x\nAC\n+r2\n!~\n"},
      {"Json", "a.json", "[{\"text\": \"one \\u00e4\", \"id\": 12}, \"two\",\n {\"n\": [1, {}], \"text\": \"\"}]\n"},
      {"Tokens", "a.tokens", "1 2 3 511\n7\n 8 9\t10\n"},
  };
  return table;
}

class EverySeed : public ::testing::TestWithParam<Seed> {};
INSTANTIATE_TEST_SUITE_P(Fuzz, EverySeed, ::testing::ValuesIn(seeds()), [](const auto& row) { return row.param.name; });

TEST_P(EverySeed, IsImportedOrRefused) {
  const TemporaryFolder folder;
  Dice dice(GetParam().name.size());
  int imported = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    const std::string path = folder.write(GetParam().file, mutated(GetParam().text, dice, "\n>@+{}[]\"\\: 0A\r"));
    try {
      import_files({.files = {path}, .out = folder / "data.h5", .force = true});
      ++imported;
      Dataset(folder / "data.h5").verify();
      std::filesystem::remove(folder / "data.h5");
    } catch (const Error& error) {
      ++refused;
      ASSERT_EQ(error.code(), ExitCode::usage) << error.what();
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
    ASSERT_EQ(folder.count(), 1u);
  }
  EXPECT_GT(imported, 0);
  EXPECT_TRUE(refused > 0 || GetParam().name == "Lines");
}

/// Reads all objects of a file with arbitrary bytes.
void read_everything(const hdf5::File& file, const std::string& group, int depth = 0) {
  if (depth > 4) return;  // a mutated group may contain itself
  for (const std::string& name : file.attribute_names()) file.attribute(name);
  for (const std::string& name : file.list(group)) {
    const std::string path = group + "/" + name;
    if (!file.is_dataset(path)) {
      read_everything(file, path, depth + 1);
      continue;
    }
    const hdf5::Dataset dataset = file.dataset(path);
    if (dataset.type().kind == hdf5::ElementType::Kind::string) {
      dataset.read_strings(0, std::min<std::int64_t>(dataset.rows(), 1000));
    } else {
      dataset.read_all<double>(1 << 20);
    }
    for (const std::string& attribute : dataset.attribute_names()) dataset.attribute(attribute);
  }
}

TEST(Fuzz, Hdf5IsReadOrRefused) {
  const TemporaryFolder folder;
  {
    DatasetWriter writer(folder / "good.h5", 512, "somewhere", {.loss_mask = true, .loss_weights = true});
    for (int d = 0; d < 20; ++d) {
      writer.begin_document("document " + std::to_string(d));
      writer.append(std::vector<std::int32_t>(static_cast<std::size_t>(d), d),
                    std::vector<std::uint8_t>(static_cast<std::size_t>(d), 1),
                    std::vector<float>(static_cast<std::size_t>(d), 0.5F));
    }
    writer.finish();
  }
  const std::string good = testing::bytes_of(folder / "good.h5");
  Dice dice(5);
  int refused = 0;
  for (int round = 0; round < 2500; ++round) {
    const std::string path = folder.write("bad.h5", mutated(good, dice, std::string_view("\0\xff\1", 3)));
    for (int way = 0; way < 2; ++way) {
      try {
        if (way == 0)
          Dataset(path).verify();
        else
          read_everything(hdf5::File::open(path, hdf5::Access::read), "/");
      } catch (const Error& error) {
        ++refused;
        ASSERT_TRUE(error.code() == ExitCode::usage || error.code() == ExitCode::corrupt) << error.what();
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace causeway
