#include "io/file/metrics.hpp"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

TEST(MetricsLog, AnAmendedLineReplacesTheLastOne) {
  const TemporaryFolder folder;
  MetricsLog log(folder / "m", 0);
  log.append({{"step", 1}});
  log.append({{"step", 2}});
  log.amend({{"step", 2}, {"checkpoint_s", 0.5}});
  log.append({{"step", 3}});
  EXPECT_EQ(bytes_of(folder / "m"), "{\"step\":1}\n{\"step\":2,\"checkpoint_s\":0.5}\n{\"step\":3}\n");
}

TEST(MetricsLog, AResumedRunRemovesLaterLines) {
  const TemporaryFolder folder;
  struct Row {
    std::string before;
    std::int64_t resumed;
    std::string kept;
  };
  const Row table[] = {
      {"{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n", 2, "{\"step\":1}\n{\"step\":2}\n"},
      {"{\"step\":1}\n{\"step\":2}\n{\"st", 5, "{\"step\":1}\n{\"step\":2}\n"},
      {"{\"step\":1}\nnonsense\n{\"step\":2}\n", 5, "{\"step\":1}\n{\"step\":2}\n"},
      {"{\"step\":1}\n", 0, ""},
      {"", 4, ""},
  };
  for (const Row& row : table) {
    folder.write("m", row.before);
    MetricsLog log(folder / "m", row.resumed);
    EXPECT_EQ(bytes_of(folder / "m"), row.kept);
    log.append({{"step", 9}});
    EXPECT_EQ(bytes_of(folder / "m"), row.kept + "{\"step\":9}\n");
  }
}

}  // namespace
}  // namespace causeway::test
