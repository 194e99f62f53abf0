/// `causeway train --tensorboard`, read back by TensorBoard's own reader.

#include "src/run/tensorboard_log.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/python.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

/// The one event file in the folder.
std::string event_file(const TemporaryFolder& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder / ""))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) return entry.path().string();
  return "";
}

TEST(TensorBoardLog, ALineThatIsAmendedAddsOnlyItsNewMembers) {
  const TemporaryFolder folder;
  TensorBoardLog log(folder / "", 0);
  const std::size_t empty = bytes_of(event_file(folder)).size();
  log.add({{"step", 1}, {"loss", nullptr}, {"unknown", 1}});
  EXPECT_EQ(bytes_of(event_file(folder)).size(), empty) << "a value that is missing is left out";
  log.add({{"step", 2}, {"loss", 0.5}});
  const std::string before = bytes_of(event_file(folder));
  log.add({{"step", 2}, {"loss", 0.5}, {"checkpoint_s", 1.5}});
  const std::string added = bytes_of(event_file(folder)).substr(before.size());
  EXPECT_NE(before.find("train/loss"), before.npos);
  EXPECT_NE(added.find("seconds/checkpoint"), added.npos);
  EXPECT_EQ(added.find("train/loss"), added.npos);
}

/// Prints "TAG STEP VALUE" for every value that TensorBoard shows of a run, the value as a float32.
constexpr const char* shown = R"(
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
for tag in events.Tags()["scalars"]:
    for event in events.Scalars(tag):
        print(tag, event.step, float(event.value))
)";

/// Prints the same for metrics.jsonl. The further arguments are MEMBER=TAG.
constexpr const char* expected = R"(
import json, struct, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
for member, tag in sorted((pair.split("=") for pair in sys.argv[2:]), key=lambda pair: pair[1]):
    for line in lines:
        if line.get(member) is not None:
            print(tag, line["step"], struct.unpack("f", struct.pack("f", line[member]))[0])
)";

TEST(TensorBoardLog, TensorBoardShowsEveryFigureOfARunThatWasResumed) {
  if (const std::string why = without_python("tensorboard"); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const std::string train =
      "@causeway train --data data.h5 --valid-data data.h5 --run run --layers attention --width 8 --heads 2 "
      "--pack-tokens 32 --checkpoint-every 2 --eval-every 3 --tensorboard --transport local --ranks 2 ";
  const Outcome first = shell(folder, train + "--steps 8");
  ASSERT_EQ(first.exit, 0) << first.err;
  // Steps 3 to 5 are computed again, steps 6 to 8 are forgotten.
  for (const char* step : {"run/step-4", "run/step-6", "run/step-8"}) std::filesystem::remove_all(folder / step);
  const Outcome second = shell(folder, train + "--steps 5 --resume auto");
  ASSERT_EQ(second.exit, 0) << second.err;
  std::string pairs;
  for (const TensorBoardTag& row : tensorboard_tags()) pairs += fmt::format(" {}={}", row.member, row.tag);
  const auto sorted = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    folder.write("lines", outcome.out);
    return shell(folder, "sort lines").out;
  };
  const std::string metrics = sorted(run_python(folder, expected, "run/metrics.jsonl" + pairs));
  EXPECT_EQ(sorted(run_python(folder, shown, "run")), metrics);
  for (const char* tag : {"train/loss 5 ", "valid/loss 0 ", "valid/loss 5 ", "seconds/checkpoint 4 "})
    EXPECT_NE(metrics.find(tag), metrics.npos) << metrics;
  EXPECT_EQ(metrics.find("train/loss 6 "), metrics.npos);
}

TEST(TensorBoardLog, TheOptionIsInConfigIniAndNoFileIsWrittenWithoutIt) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const std::string train =
      "@causeway train --data data.h5 --run run --layers attention --width 8 --heads 2 --pack-tokens 32 --steps 1";
  ASSERT_EQ(shell(folder, train).exit, 0);
  EXPECT_EQ(shell(folder, "sh -c 'ls run | grep -c tfevents'").out, "0\n");
  EXPECT_NE(bytes_of(folder / "run/config.ini").find("tensorboard = false"), std::string::npos);
}

}  // namespace
}  // namespace causeway::test
