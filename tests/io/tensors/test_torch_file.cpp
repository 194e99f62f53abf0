#include "io/tensors/torch_file.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/torch_archive.hpp"

namespace causeway {
namespace {

using namespace testing::pickled;
using testing::pickled_tensor;
using testing::TorchTensor;

std::string floats(std::initializer_list<float> values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

std::vector<float> values_of(const TensorFiles& files, const std::string& name) {
  const FileTensor* tensor = files.find(name);
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<std::size_t>(tensor->elements()));
  files.read(*tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

const std::vector<TorchTensor> two_tensors = {{"a.weight", TensorType::f32, {2, 3}, floats({1, 2, 3, 4, 5, 6})},
                                              {"a.bias", TensorType::bf16, {2}, std::string(4, '\1')}};

class TorchFile : public ::testing::Test {
 protected:
  TensorFiles read(const std::string& bytes) { return read_torch_file(folder_.write("model.pt", bytes)); }
  /// A file whose pickle is this value, with one storage of six floats.
  std::string file_of(const std::string& value) {
    const std::string storage[] = {floats({1, 2, 3, 4, 5, 6})};
    return testing::zip_archive(testing::torch_members(whole(value), storage));
  }
  std::string file_of_tensor(std::int64_t stored, std::int64_t offset, std::vector<std::int64_t> shape,
                             std::vector<std::int64_t> strides) {
    return file_of(dictionary({{"w", pickled_tensor("0", TensorType::f32, stored, offset, shape, strides)}}));
  }
  std::pair<int, std::string> refusal(const std::string& bytes) {
    try {
      read(bytes);
      return {0, ""};
    } catch (const Error& error) {
      return {static_cast<int>(error.code()), error.what()};
    }
  }
  testing::TemporaryFolder folder_;
};

TEST_F(TorchFile, GivesTheTensorsOfAStateDict) {
  for (const testing::ZipForm& form : {testing::ZipForm{}, {.zip64 = true}, {.checksums = false}}) {
    const TensorFiles files = read(testing::torch_archive(two_tensors, form));
    ASSERT_EQ(files.tensors().size(), 2u);
    EXPECT_EQ(values_of(files, "a.weight"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(files.find("a.bias")->type, TensorType::bf16);
    EXPECT_EQ(files.find("a.weight")->shape, (std::vector<std::int64_t>{2, 3}));
  }
}

TEST_F(TorchFile, GathersATransposedTensorAndAPartOfAStorage) {
  EXPECT_EQ(values_of(read(file_of_tensor(6, 0, {3, 2}, {1, 3})), "w"), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(values_of(read(file_of_tensor(6, 1, {2, 2}, {3, 1})), "w"), (std::vector<float>{2, 3, 5, 6}));
  EXPECT_EQ(values_of(read(file_of_tensor(6, 5, {1, 1}, {100, 100})), "w"), (std::vector<float>{6}));
  EXPECT_EQ(values_of(read(file_of_tensor(6, 0, {0, 9}, {9, 1})), "w"), std::vector<float>{});
}

TEST_F(TorchFile, RefusesATensorThatIsNotInItsStorage) {
  EXPECT_EQ(refusal(file_of_tensor(6, 1, {2, 3}, {3, 1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(7, 0, {2}, {1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(6, -1, {2}, {1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {-2}, {1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {2}, {-1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {2, 2}, {1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {INT64_MAX, INT64_MAX}, {INT64_MAX, 1})).first, 65);
  EXPECT_EQ(refusal(file_of_tensor(INT64_MAX, 0, {2}, {1})).first, 65);
  EXPECT_EQ(refusal(file_of(dictionary({{"w", pickled_tensor("9", TensorType::f32, 6, 0, {}, {})}}))).first, 65);
}

TEST_F(TorchFile, RefusesElementsThatShareMemory) {
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {std::int64_t{1} << 50}, {0})).first, 2);
  EXPECT_EQ(refusal(file_of_tensor(6, 0, {3, 3}, {1, 1})).first, 2);
}

TEST_F(TorchFile, FindsTheTensorsUnderTheNamesOfTrainingPrograms) {
  const std::string tensor =
      pickled_tensor("0", TensorType::f32, 6, 0, std::vector<std::int64_t>{6}, std::vector<std::int64_t>{1});
  const std::string inner = dictionary({{"w", tensor}});
  for (const std::string& top :
       {inner, dictionary({{"module", inner}}), dictionary({{"step", integer(3)}, {"model", inner}, {"rest", "]"}}),
        dictionary({{"state_dict", dictionary({{"module", inner}})}})})
    EXPECT_EQ(values_of(read(file_of(top)), "w").size(), 6u);
  EXPECT_EQ(refusal(file_of(dictionary({{"weights", inner}}))).first, 2);
  EXPECT_EQ(refusal(file_of("](" + tensor + "e")).first, 2);
  EXPECT_EQ(refusal(file_of("}")).first, 2);
}

TEST_F(TorchFile, ADictionaryThatContainsItselfEnds) {
  EXPECT_EQ(refusal(file_of("}q\1" + text("module") + "h\1s")).first, 2);
}

TEST_F(TorchFile, SkipsTheExtraStateOfFp8Training) {
  const std::string bytes = call(global("_codecs", "encode"), tuple({text("\xc3\xbf"), text("latin1")}));
  const std::string state = global("_io", "BytesIO") + ")\x81" + tuple({bytes, integer(0), "N"}) + "b";
  const std::vector<std::int64_t> shape = {6}, strides = {1};
  const TensorFiles files =
      read(file_of(dictionary({{"w", pickled_tensor("0", TensorType::f32, 6, 0, shape, strides)},
                               {"p._extra_state", state},
                               {"q._extra_state", pickled_tensor("0", TensorType::f32, 6, 0, shape, strides)}})));
  EXPECT_EQ(files.tensors().size(), 1u);
}

TEST_F(TorchFile, ReadsParametersAndAttributesOfTheDictionary) {
  const std::vector<std::int64_t> shape = {6}, strides = {1};
  const std::string ordered = call(global("collections", "OrderedDict"), ")");
  const std::string parameter =
      call(global("torch._utils", "_rebuild_parameter"),
           tuple({pickled_tensor("0", TensorType::f32, 6, 0, shape, strides), "\x88", ordered}));
  const TensorFiles files =
      read(file_of(ordered + "(" + text("w") + parameter + "u}" + text("_metadata") + ordered + "sb"));
  EXPECT_EQ(values_of(files, "w").size(), 6u);
}

TEST_F(TorchFile, RefusesAPickleThatWouldExecuteSomething) {
  const auto [code, message] =
      refusal(file_of(dictionary({{"w", call(global("os", "system"), tuple({text("touch /tmp/owned")}))}})));
  EXPECT_EQ(code, 2);
  EXPECT_NE(message.find("os.system"), message.npos);
}

TEST_F(TorchFile, RefusesATensorThatIsThereTwice) {
  const std::string tensor =
      pickled_tensor("0", TensorType::f32, 6, 0, std::vector<std::int64_t>{6}, std::vector<std::int64_t>{1});
  EXPECT_EQ(refusal(file_of(dictionary({{"w", tensor}, {"w", tensor}}))).first, 65);
}

TEST_F(TorchFile, RefusesBigEndianAndOldFilesByName) {
  std::vector<testing::ZipMember> members = testing::torch_members(whole(dictionary({})), {});
  members[1].bytes = "big";
  EXPECT_NE(refusal(testing::zip_archive(members)).second.find("big-endian"), std::string::npos);
  const std::string old = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  const auto [code, message] = refusal(old + std::string(100, 'x'));
  EXPECT_EQ(code, 2);
  EXPECT_NE(message.find("torch before 1.6"), message.npos) << message;
  EXPECT_TRUE(is_torch_file(folder_.write("old.pt", old)));
  EXPECT_FALSE(is_torch_file(folder_.write("text", "model: 1\n")));
  EXPECT_EQ(refusal("model: 1\n").first, 2);
}

TEST_F(TorchFile, IsDamagedWhereverItIsCut) {
  const std::string bytes = testing::torch_archive(two_tensors);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const int code = refusal(bytes.substr(0, size)).first;
    EXPECT_TRUE(size < 30 ? code == 2 : code == 65) << size << ": " << code;
  }
}

TEST_F(TorchFile, ReadsTheSameTensorsOrRefusesWhereverAByteOfItsPickleChanges) {
  const std::string bytes = testing::torch_archive(two_tensors);
  const std::size_t begin = bytes.find("\x80\x02}"), end = bytes.find("PK\x03\x04", begin);
  for (std::size_t at = begin; at < end; ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_EQ(refusal(damaged).first, 65) << at;  // by its checksum
  }
}

TEST_F(TorchFile, FindsAChangedByteOfATensorByTheArchivesChecksum) {
  for (const bool checksums : {true, false}) {
    std::string bytes = testing::torch_archive(two_tensors, {.checksums = checksums});
    bytes[bytes.find(two_tensors[0].bytes) + 5] ^= 1;
    const TensorFiles files = read(bytes);
    if (checksums)
      EXPECT_THROW(values_of(files, "a.weight"), Error);
    else
      EXPECT_EQ(values_of(files, "a.weight").size(), 6u);
  }
}

TEST_F(TorchFile, JoinsTheParts) {
  const std::string bytes = testing::torch_archive(two_tensors);
  const std::size_t cuts[] = {0, 1, bytes.find("\x80\x02}") + 5, bytes.size() - 7, bytes.size()};
  for (std::size_t part = 0; part + 1 < std::size(cuts); ++part)
    folder_.write(fmt::format("cut.pt.part{}", part), bytes.substr(cuts[part], cuts[part + 1] - cuts[part]));
  for (const char* name : {"cut.pt", "cut.pt.part0", "cut.pt.part2"})
    EXPECT_EQ(values_of(read_torch_file(folder_ / name), "a.weight"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  std::filesystem::remove(folder_ / "cut.pt.part1");
  EXPECT_THROW(read_torch_file(folder_ / "cut.pt"), Error);
  EXPECT_THROW(read_torch_file(folder_ / "absent.pt"), Error);
}

}  // namespace
}  // namespace causeway
