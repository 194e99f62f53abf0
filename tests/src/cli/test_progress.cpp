#include "src/cli/progress.hpp"

#include <gtest/gtest.h>

namespace causeway::test {
namespace {

TEST(Progress, ALineHasShareSpeedAndTimeLeft) {
  EXPECT_EQ(progress_line("import", 250, 1000, "documents", 5, "2 cut"),
            "import: 250 of 1k documents (25 %), 50 documents/s, 15 s left, 2 cut");
  EXPECT_EQ(progress_line("import", 3, 0, "files", 0, ""), "import: 3 files");
  EXPECT_EQ(progress_line("score", 10, 10, "packs", 100, ""), "score: 10 of 10 packs (100 %), 0.1 packs/s");
}

TEST(Progress, ABarIsAsWideAsTheTerminal) {
  for (const int width : {1, 20, 80, 200}) {
    const std::string bar = progress_bar("train", 50, 100, "steps", 10, "loss 1.25", width);
    EXPECT_EQ(bar.size(), static_cast<std::size_t>(std::max(1, width - 1)));
    EXPECT_EQ(bar.find('\n'), std::string::npos);
  }
  EXPECT_NE(progress_bar("train", 50, 100, "steps", 10, "", 120).find("[############............]"), std::string::npos);
  EXPECT_NE(progress_bar("train", 500, 100, "steps", 10, "", 120).find("[########################]"),
            std::string::npos);
}

}  // namespace
}  // namespace causeway::test
