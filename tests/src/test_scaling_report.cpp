/// scripts/scaling/report on results with known figures; and the page as Chromium shows it.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/python.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

constexpr const char* modules = "matplotlib h5py numpy";

/// Writes r.h5: steps on 1, 2 and 4 ranks, twice each, in packs of 4096 and of 4096 a rank; 2 and 4 ranks are 1.8 and
/// 3 times as fast in strong scaling. Strategies on 2 and 4 ranks, operators.
constexpr const char* make_results = R"(
import sys
sys.path[:0] = [sys.argv[1] + "/scripts/scaling", sys.argv[1] + "/scripts/python"]
from plan import FIELDS
from results import Results
results, number = Results("r.h5"), 0
results.seed = 7

def add(report, repeat=0, **fields):
    global number
    number += 1
    run = dict({name: "" for name in FIELDS}, threads=1, tokens=0, channels=64, device="cpu", dtype="auto",
               repeat=repeat, key=f"{number:016x}", run_order=number, started="2026-01-01T00:00:00Z", wall_s=1.0,
               load=0.5, host="h",
               cores=2, processor="p", program="causeway", exit=0, error="")
    run.update(fields)
    results.add({"run": run, "report": report and dict(report, dtype="f32")})

for ranks, speed in ((1, 1), (2, 1.8), (4, 3)):
    for tokens in {4096, 4096 * ranks}:
        for repeat in range(2):
            ms = 100 * tokens / 4096 / speed * (1 + 0.1 * repeat)
            add({"tokens": tokens, "step_ms": ms, "steps_ms": [ms], "tokens_per_s": tokens / ms * 1e3, "fill": 1,
                 "exposed_ms": 0.2 * ms * (ranks > 1), "hidden_ms": 0.1 * ms * (ranks > 1),
                 "memory_bytes": 10**8 // ranks,
                 "padded_tokens_per_s": 9e3 if ranks == 1 else None, "padded_places": 2 * tokens,
                 "one_at_a_time_tokens_per_s": 8e3,
                 "parts": {"gemm": ms}}, repeat, topic="step", ranks=ranks, tokens=tokens, model="<b>mamba&tiny</b>",
                layout="contiguous", strategy="auto")
    if ranks > 1:
        for tokens in (1024, 2048):
            add({"results": [{"strategy": name, "variant": "", "documents": 1, "forward_milliseconds": 1.0 + i,
                              "backward_milliseconds": 1.0, "exposed_milliseconds": 0,
                              "hidden_milliseconds": 0, "messages_sent": 1,
                              "bytes_sent": (1536 if ranks == 4 else 768) + 5 * i, "memory_bytes": 9}
                             for i, name in enumerate(["halo", "halo_overlapped"])]},
                topic="strategies", ranks=ranks, tokens=tokens, operator="causal_conv")
add({"ceilings": {"gigabytes_per_second": 10, "gigaflops": 50, "giga_exponentials_per_second": 1},
     "results": [{"name": f"{name} {way}", "shape": "[1, 2]", "documents": 1, "milliseconds": 1.0, "bytes": 1e6,
                  "flops": flops, "exponentials": 0, "part_of_ceiling": 0.5, "ceiling": "gemm"}
                 for name, flops in (("gemm", 1e7), ("attention", 3e7), ("scan", 0))
                 for way in ("forward", "backward")]},
    topic="operators", ranks=1)
add(None, topic="step", ranks=8, tokens=4096, model="m", exit=2, error="does not fit")
results.write()
)";

Outcome report(const TemporaryFolder& folder, const std::string& arguments) {
  return shell(folder,
               fmt::format("'{}' {}/scripts/scaling/report {}", python_with(modules), CAUSEWAY_TEST_SOURCE, arguments));
}

Outcome make(const TemporaryFolder& folder) {
  folder.write("make.py", make_results);
  return shell(folder, fmt::format("'{}' make.py {}", python_with(modules), CAUSEWAY_TEST_SOURCE));
}

std::string chromium() {
  const TemporaryFolder folder;
  const std::string path =
      shell(folder, "sh -c 'command -v chromium || command -v chromium-browser || command -v google-chrome'").out;
  return path.substr(0, path.find('\n'));
}

Outcome look(const TemporaryFolder& folder, const std::string& browser, const std::string& page) {
  return shell(folder,
               fmt::format("python3 {}/tests/support/look_at_page.py '{}' {}", CAUSEWAY_TEST_SOURCE, browser, page));
}

TEST(ScalingReport, DrawsEveryPictureAndTheKnownFigures) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const Outcome made = make(folder);
  ASSERT_EQ(made.exit, 0) << made.err;
  const Outcome outcome = report(folder, "r.h5");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const std::string page = bytes_of(folder / "r-report/report.html");
  for (const char* name : {"speed-up", "efficiency-strong", "efficiency-weak", "time", "memory", "bytes",
                           "crossover-causal_conv-64", "overview", "roofline", "ceilings", "packing"}) {
    EXPECT_EQ(bytes_of(folder / fmt::format("r-report/{}.png", name)).substr(1, 3), "PNG") << name;
    EXPECT_NE(bytes_of(folder / fmt::format("r-report/{}.svg", name)).find("</svg>"), std::string::npos) << name;
    EXPECT_NE(page.find(fmt::format("id=\"{}-description\"", name)), std::string::npos) << name;
  }
  for (const char* text : {"1.80 on 2, 3.00 on 4", "90 % on 2, 75 % on 4", "4 of 8 are equal",
                           "The machine has 2 cores. "
                           "With 4, 8 ranks",
                           "1 of 16 runs failed", "does not fit", "50.0 %"})
    EXPECT_NE(page.find(text), std::string::npos) << text;
  EXPECT_EQ(page.find("<b>mamba"), std::string::npos) << "a name is not markup";
  EXPECT_EQ(page.find("<script"), std::string::npos);
  if (const std::string browser = chromium(); !browser.empty()) {
    const Outcome seen = look(folder, browser, "r-report/report.html");
    EXPECT_EQ(seen.exit, 0) << seen.out << seen.err;
  }
}

/// A program that writes the same figures for every run, and a mpirun that starts it once.
void write_stubs(const TemporaryFolder& folder) {
  const std::string step = R"({"dtype": "f32", "tokens": 128, "step_ms": 2, "steps_ms": [2], "tokens_per_s": 64000,
"fill": 1, "exposed_ms": 0.5, "hidden_ms": 0.1, "memory_bytes": 1000, "parts": {"gemm": 2})";
  folder.write("step", step + "}");
  folder.write("padded", step + R"(, "padded_tokens_per_s": 9, "padded_places": 256})");
  folder.write("strategies", R"({"dtype": "f32", "results": [{"strategy": "ring", "variant": "", "documents": 1,
"forward_milliseconds": 1, "backward_milliseconds": 1, "estimated_milliseconds": 2,
"exposed_milliseconds": 0, "hidden_milliseconds": 0, "bytes_sent": 9, "messages_sent": 1, "memory_bytes": 9}]})");
  folder.write("operators", R"({"dtype": "f32", "ceilings": {"gigabytes_per_second": 10, "gigaflops": 50,
"giga_exponentials_per_second": 1}, "results": [{"name": "gemm", "shape": "[1, 2]", "documents": 1, "milliseconds": 1,
"bytes": 1e6, "flops": 1e7, "exponentials": 0, "part_of_ceiling": 0.5, "ceiling": "gemm"}]})");
  folder.write("program", R"sh(#!/bin/sh
[ "$1" = bench ] || { echo causeway 0.0.0; echo revision none; exit; }
[ "$2" != --help ] || { echo --shard; exit; }
topic=$2
case "$*" in *--padded*) topic=padded ;; esac
while [ $# -gt 1 ]; do [ "$1" != --json ] || to=$2; shift; done
cp "$(dirname "$0")/$topic" "$to"
)sh");
  folder.write("mpirun", "#!/bin/sh\nshift 2\nexec \"$@\"\n");
  for (const char* name : {"program", "mpirun"})
    std::filesystem::permissions(folder / name, std::filesystem::perms::owner_all);
}

TEST(ScalingReport, OneCommandMeasuresAndDraws) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_stubs(folder);
  const std::string command = fmt::format(
      "env PATH=\"$PWD:$PATH\" CAUSEWAY=\"$PWD/program\" PYTHON='{}' {}/scripts/scaling/quick --no-setup page",
      python_with(modules), CAUSEWAY_TEST_SOURCE);
  folder.write("quick.sh", command + "\n");
  const Outcome outcome = shell(folder, "sh quick.sh");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("page/report.html after "), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.err.find("FAILED"), std::string::npos) << outcome.err;
  const std::string page = bytes_of(folder / "page/report.html");
  for (const char* name : {"overview", "speed-up", "efficiency-strong", "efficiency-weak", "time", "memory", "packing",
                           "crossover-attention-64", "roofline", "ceilings"})
    EXPECT_NE(page.find(fmt::format("id=\"{}-description\"", name)), std::string::npos) << name;
  // What was measured is not measured again; results of another machine come in.
  ASSERT_EQ(make(folder).exit, 0);
  folder.write("quick.sh", command + " --add r.h5\n");
  const Outcome again = shell(folder, "sh quick.sh");
  ASSERT_EQ(again.exit, 0) << again.err;
  EXPECT_NE(again.err.find("sweep: 0 of 21 runs to do, seed 19"), std::string::npos) << again.err;
  EXPECT_NE(bytes_of(folder / "page/report.html").find("&lt;b&gt;mamba"), std::string::npos);
  for (const auto& [arguments, text] : {std::pair{"--colour", "unknown option '--colour'"},
                                        {"--add none.h5", "--add 'none.h5' is no file"},
                                        {"a b", "'b' is a second folder"}}) {
    const Outcome refused =
        shell(folder, fmt::format("{}/scripts/scaling/quick --no-setup {}", CAUSEWAY_TEST_SOURCE, arguments));
    EXPECT_EQ(refused.exit, 2) << arguments;
    EXPECT_NE(refused.err.find(text), std::string::npos) << refused.err;
  }
}

/// The test of the page must be able to fail.
TEST(ScalingReport, LookingAtAPageFindsWhatIsWrong) {
  const std::string browser = chromium();
  if (browser.empty()) GTEST_SKIP() << "there is no Chromium";
  const TemporaryFolder folder;
  folder.write("bad.html", R"(<meta name="viewport" content="width=device-width"><body style="width:500px">
<figure id="empty"><svg width="300" height="200"></svg></figure><script>console.error("broken")</script></body>)");
  const Outcome outcome = look(folder, browser, "bad.html");
  EXPECT_EQ(outcome.exit, 1) << outcome.err;
  for (const char* text : {"phone: console: ['broken']", "phone: the page is 5", "empty: an empty plot",
                           "empty: no alternative text", "dark: "})
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text << " is missing in\n" << outcome.out;
}

TEST(ScalingReport, NamesWhatIsMissingAndRefusesOtherFiles) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  folder.write("text.h5", "hello");
  for (const auto& [arguments, text] : {std::pair{"text.h5", "text.h5: is damaged"},
                                        {"none.h5", "none.h5: no such file"},
                                        {"none.h5 --colour red", "unrecognized arguments"}}) {
    const Outcome outcome = report(folder, arguments);
    EXPECT_EQ(outcome.exit, 2) << arguments;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
