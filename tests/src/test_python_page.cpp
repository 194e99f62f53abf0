/// The code of io/PYTHON.md, on files of the program.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "io/data/dataset.hpp"
#include "tests/src/python.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

/// The blocks between ```python and ```, one after the other.
std::string code_of(const std::string& page) {
  std::istringstream lines(page);
  std::string code;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```"))
      inside = line == "```python";
    else if (inside)
      code += line + "\n";
  }
  return code;
}

TEST(PythonPage, ItsCodeReadsAndWritesFilesOfTheProgram) {
  if (const std::string why = without_python("h5py numpy"); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  for (const char* command :
       {"train --data data.h5 --valid-data data.h5 --run runs/first --layers attention --width 8 --heads 2 "
        "--pack-tokens 32 --steps 3",
        "score --checkpoint runs/first --data data.h5 --out scores.h5 --embeddings 1:mean",
        "export scores.h5 --out scores.csv", "export scores.h5 --out scores.tsv"}) {
    const Outcome outcome = shell(folder, std::string("@causeway ") + command);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  const std::string code = code_of(bytes_of(std::string(CAUSEWAY_TEST_SOURCE) + "/io/PYTHON.md"));
  ASSERT_NE(code.find("causeway-dataset"), std::string::npos) << "the page has no code that writes a dataset";
  const Outcome outcome = run_python(folder, code, "");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  for (const char* printed :
       {"document 0 5 b'AAAAA'", "backbone.embedding.weight (512, 8)", "layer_1 (20, 8)", "tokens/s"})
    EXPECT_NE(outcome.out.find(printed), std::string::npos) << printed << " is missing in\n" << outcome.out;

  const Outcome verified = shell(folder, "@causeway inspect --verify mine.h5");
  EXPECT_EQ(verified.exit, 0) << verified.err;
  EXPECT_EQ(shell(folder, "@causeway export mine.h5").out,
            "name\ttokens\tweight\nfirst\t8\t6.200000002980232\nsecond\t7\t4.300000004470348\n");
}

}  // namespace
}  // namespace causeway::test
