/// scripts/plot on files that the program wrote. How the pictures look must be seen.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/python.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

Outcome plot(const TemporaryFolder& folder, const std::string& arguments, const std::string& environment = "") {
  return shell(folder,
               fmt::format("env {} '{}' {}/scripts/plot {}", environment, python(), CAUSEWAY_TEST_SOURCE, arguments));
}

/// Runs the script once for each line of arguments, in one process: importing matplotlib takes most of the time.
constexpr const char* draw_all = R"(
import runpy, sys
for line in open("lines"):
    sys.argv, code = [sys.argv[0]] + line.split(), 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    print(*sys.argv[1:], "exit", code)
)";

struct Picture {
  std::string name, files;
  std::vector<std::string> texts;  ///< of its SVG
};

TEST(PlotScript, DrawsEveryPictureFromTheProgramsFiles) {
  if (const std::string why = without_python("matplotlib numpy h5py"); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  folder.write("losses.tsv", "tiny\toff\t1\t0\t2\ntiny\toff\t2\t0\t1\ntiny\tall\t1\t0\t1\ntiny\tall\t2\t0\t1.5\n");
  for (const char* command :
       {"train --data data.h5 --valid-data data.h5 --run run --layers attention --width 8 --heads 2 --pack-tokens 32 "
        "--steps 8 --eval-every 4",
        "score --checkpoint run --data data.h5 --out scores.h5",
        "pack --data data.h5 --pack-tokens 32 --report --json pack.json",
        "bench operators --tokens 96 --channels 16 --seconds 0 --filter rms_norm --json bench.json"}) {
    const Outcome outcome = shell(folder, std::string("@causeway ") + command);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  const Picture pictures[] = {
      {"loss", "run", {"loss (nats per token)", "tokens/s", "run, training", "run, held out"}},
      {"lengths", "data.h5", {"length of a document (tokens)", "data.h5: 20 documents, 290 tokens"}},
      {"padding", "pack.json", {"padding (% of all tokens", "greedy", "first_fit_decreasing"}},
      {"scores", "scores.h5 scores.h5", {"log-likelihood (nats per token)", "20 documents, median"}},
      {"bench", "bench.json", {"share of the ceiling (%), cpu, f32", "rms_norm forward"}},
      {"levels", "losses.tsv", {"tiny, 2 seeds", "bf16: 1.5000", "--fp8 all: 1.2500"}},
  };
  std::string lines;
  for (const Picture& picture : pictures) lines += fmt::format("{} {}\n", picture.name, picture.files);
  lines += "loss run\nloss run/metrics.jsonl run --out other.svg --x tokens\nloss run --out other --force\n";
  folder.write("lines", lines);
  folder.write("draw.py", draw_all);
  const Outcome outcome = shell(
      folder, fmt::format("'{}' -c 'import sys; sys.argv = [\"{}/scripts/plot\"]; exec(open(\"draw.py\").read())'",
                          python(), CAUSEWAY_TEST_SOURCE));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  for (const Picture& picture : pictures) {
    EXPECT_NE(outcome.out.find(fmt::format("{} {} exit 0", picture.name, picture.files)), std::string::npos)
        << outcome.out << outcome.err;
    EXPECT_EQ(bytes_of(folder / (picture.name + ".png")).substr(1, 3), "PNG");
    const std::string svg = bytes_of(folder / (picture.name + ".svg"));
    for (const std::string& text : picture.texts)
      EXPECT_NE(svg.find(text), std::string::npos) << picture.name << ": " << text;
  }
  EXPECT_NE(outcome.out.find("loss run exit 2"), std::string::npos) << "pictures that exist are refused";
  EXPECT_NE(outcome.out.find("--x tokens exit 0"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("--force exit 0"), std::string::npos) << outcome.out;
}

/// A line of one point is invisible; a long name pushes the rest of the legend out of the picture.
TEST(PlotScript, DrawsOneStepAndShortensLongNames) {
  if (const std::string why = without_python("matplotlib numpy"); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const std::string name = "first" + std::string(100, 'x') + "last";
  folder.write(name, "{\"step\":1,\"loss\":6.2,\"tokens\":8,\"step_s\":0.1}\n");
  folder.write("two",
               "{\"step\":1,\"loss\":6.2,\"tokens\":8,\"step_s\":0.1}\n"
               "{\"step\":2,\"loss\":1e999,\"tokens\":8,\"step_s\":0.1}\n"
               "{\"step\":3,\"loss\":6.1,\"tokens\":8,\"step_s\":0.1}\n");
  ASSERT_EQ(plot(folder, "loss two --out two").exit, 0);
  ASSERT_EQ(plot(folder, "loss " + name + " --out one").exit, 0);
  const std::string one = bytes_of(folder / "one.svg"), two = bytes_of(folder / "two.svg");
  EXPECT_EQ(one.find(name), std::string::npos);
  EXPECT_NE(one.find("firstxxxxxxxxxxx…xxxxxxxxxxxxxlast, training"), std::string::npos);
  const auto colour = "style=\"fill: #0072b2";  // of a marker; a line has no fill
  EXPECT_NE(one.find(colour), std::string::npos);
  EXPECT_EQ(two.find(colour), std::string::npos);
  EXPECT_EQ(one.find("up to"), std::string::npos);
}

TEST(PlotScript, RefusesFilesOfAnotherKind) {
  if (const std::string why = without_python("matplotlib numpy h5py"); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  folder.write("text", "hello\n");
  folder.write("other.json", R"({"topic":"packing","results":[{"x":1}],"pack_tokens":4})");
  folder.write("empty.json", R"({"topic":"operators","results":[{"x":1}],"device":"cpu","dtype":"f32"})");
  folder.write("huge", "{\"step\":1,\"loss\":1e308}\n{\"step\":2,\"loss\":-1e308}\n");
  for (const char* arguments : {"loss text", "lengths text", "scores data.h5", "padding other.json", "bench other.json",
                                "bench empty.json", "loss huge"}) {
    const Outcome outcome = plot(folder, arguments);
    EXPECT_EQ(outcome.exit, 2) << arguments << outcome.err;
    EXPECT_NE(outcome.err.find("plot: "), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("Traceback"), std::string::npos) << outcome.err;
  }
}

TEST(PlotScript, SaysWhatToInstall) {
  const TemporaryFolder folder;
  if (shell(folder, fmt::format("'{}' --version", python())).exit != 0)
    GTEST_SKIP() << python() << " cannot be started";
  folder.write("matplotlib.py", "raise ImportError\n");
  folder.write("numpy.py", "");
  folder.write("metrics.jsonl", "{\"step\":1,\"loss\":1}\n");
  const Outcome outcome = plot(folder, "loss metrics.jsonl", "PYTHONPATH=.");
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("the Python package matplotlib is missing"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("-m pip install matplotlib"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace causeway::test
