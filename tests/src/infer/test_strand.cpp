#include <gtest/gtest.h>

#include <string>

#include "io/data/dataset_writer.hpp"
#include "src/infer/strand.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::string reversed(const std::string& text) {
  const TemporaryFolder folder;
  DatasetWriter writer(folder / "data.h5", 512, "test");
  writer.begin_document("before");
  writer.append(std::vector<std::int32_t>{7, 7, 7});
  writer.begin_document("the document");
  std::vector<std::int32_t> tokens;
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  writer.append(tokens);
  writer.finish();
  const Dataset data(folder / "data.h5");
  const ReverseDocument document(data, 1);
  std::vector<std::int32_t> whole(text.size());
  document.read(0, whole);
  for (std::int64_t begin = 0; begin <= std::ssize(whole); ++begin)
    for (std::int64_t end = begin; end <= std::ssize(whole); ++end) {
      std::vector<std::int32_t> part(static_cast<std::size_t>(end - begin));
      document.read(begin, part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin)) << begin << " " << end;
    }
  for (std::int64_t i = 0; i < std::ssize(whole); ++i) EXPECT_EQ(document.opposite(document.opposite(i)), i);
  return {whole.begin(), whole.end()};
}

TEST(Strand, TheReverseComplementIsReadFromAnyToken) {
  EXPECT_EQ(reversed("AACGTRn-x"), "x-nYACGTT");
  EXPECT_EQ(reversed("A"), "T");
}

TEST(Strand, ZerosAtTheEndsOfADocumentStayThere) {
  const std::string zero(1, '\0');
  EXPECT_EQ(reversed("AAC" + zero), "GTT" + zero);
  EXPECT_EQ(reversed(zero + "AAC"), zero + "GTT");
  EXPECT_EQ(reversed(zero + "A" + zero + "CC" + zero + zero), zero + "GG" + zero + "T" + zero + zero);
  EXPECT_EQ(reversed(std::string(3, '\0')), std::string(3, '\0'));
  const std::string zeros(70, '\0');  // more than are read at a time
  EXPECT_EQ(reversed(zeros + "AC" + zeros), zeros + "GT" + zeros);
}

}  // namespace
}  // namespace causeway::test
