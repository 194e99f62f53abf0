#include "io/file/metrics_log.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "kernels/core/error.hpp"
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

/// What a user may do to the file of an active run, and what the file contains after one more append and amend.
TEST(MetricsLog, AFileThatIsDeletedOrChangedContinuesWithCompleteLines) {
  struct Row {
    std::string name;
    std::function<void(const std::string&)> disturb;
    std::string after;
  };
  const auto overwrite = [](std::string text) {
    return [text](const std::string& path) { std::ofstream(path, std::ios::trunc) << text; };
  };
  const std::string added = "{\"step\":3,\"s\":1}\n{\"step\":4}\n";
  const Row table[] = {
      {"nothing", [](const std::string&) {}, "{\"step\":1}\n{\"step\":2}\n" + added},
      {"deleted", [](const std::string& path) { std::filesystem::remove(path); }, added},
      {"emptied", overwrite(""), added},
      {"cut in a line", overwrite("{\"step\":1}\n{\"st"), "{\"step\":1}\n{\"st\n" + added},
      {"replaced by another of the same size",
       [](const std::string& path) {
         std::ofstream(path + "2") << "{\"step\":7}\n{\"step\":8}\n";
         std::filesystem::rename(path + "2", path);
       },
       "{\"step\":7}\n{\"step\":8}\n" + added},
      {"extended", overwrite("{\"step\":1}\n{\"step\":2}\n# a note\n"),
       "{\"step\":1}\n{\"step\":2}\n# a note\n" + added},
  };
  for (const Row& row : table) {
    const TemporaryFolder folder;
    int warnings = 0;
    MetricsLog log(folder / "m", 0, [&](const std::string&) { ++warnings; });
    log.append({{"step", 1}});
    log.append({{"step", 2}});
    row.disturb(folder / "m");
    log.append({{"step", 3}});
    log.amend({{"step", 3}, {"s", 1}});
    log.append({{"step", 4}});
    EXPECT_EQ(bytes_of(folder / "m"), row.after) << row.name;
    EXPECT_EQ(warnings, row.name == "nothing" ? 0 : 1) << row.name;
  }
}

TEST(MetricsLog, AFolderThatIsRemovedIsAnIoErrorWithTheSystemsReason) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "run");
  MetricsLog log(folder / "run/m", 0);
  log.append({{"step", 1}});
  std::filesystem::remove_all(folder / "run");
  try {
    log.append({{"step", 2}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway::test
