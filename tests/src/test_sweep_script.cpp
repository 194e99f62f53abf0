/// scripts/scaling/sweep with the program: what it measures, and what a stop, a kill or a damaged file leave.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/src/python.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

constexpr const char* modules = "h5py numpy";

std::string sweep_command(const std::string& arguments) {
  return fmt::format("'{}' {}/scripts/scaling/sweep --out r.h5 {}", python_with(modules), CAUSEWAY_TEST_SOURCE,
                     arguments);
}

Outcome sweep(const TemporaryFolder& folder, const std::string& arguments) {
  return shell(folder, sweep_command(arguments));
}

/// Two training steps: one on one rank, one on two.
constexpr const char* two_steps =
    "--causeway ./program --topics step --ranks 1,2 --tokens 128 --repeats 1 --seed 1 --bench='--steps 1' --strategy "
    "causal_conv=halo,selective_scan=state_carry";

/// ./program: the program; the file `calls` gets a line for each start. The second start waits until the file `go`
/// exists.
void write_program(const TemporaryFolder& folder) {
  const std::string path = folder.write("program", expanded(R"sh(#!/bin/sh
if [ "$2" = step ] && [ "${OMPI_COMM_WORLD_RANK:-0}" = 0 ]; then
  echo start >>calls
  while [ ! -e go ] && [ "$(wc -l <calls)" -ge 2 ]; do sleep 0.1; done
fi
exec '@causeway' "$@"
)sh"));
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

std::ptrdiff_t lines_of(const std::string& path) { return std::ranges::count(bytes_of(path), '\n'); }

/// Starts the two steps, sends the signal while the second one runs, and waits for the end of the sweep, whose exit
/// code is in the result.
Outcome stopped_with(const TemporaryFolder& folder, const std::string& signal) {
  folder.write("stop", fmt::format(R"sh({} >out 2>err &
while [ ! -e calls ] || [ "$(wc -l <calls)" -lt 2 ]; do sleep 0.05; done
kill -{} $!
wait $!
)sh",
                                   sweep_command(two_steps), signal));
  return shell(folder, "sh stop");
}

TEST(SweepScript, AKilledSweepLosesNothingAndRunsNothingTwice) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_program(folder);
  EXPECT_EQ(stopped_with(folder, "KILL").exit, 128 + 9);
  EXPECT_NE(sweep(folder, "--table").out.find("128"), std::string::npos) << "the first run was lost";
  folder.write("go", "");
  const Outcome resumed = sweep(folder, two_steps);
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("sweep: 1 of 2 runs to do, seed 1"), std::string::npos) << resumed.err;
  EXPECT_EQ(lines_of(folder / "calls"), 3) << "first, second, second again";
  EXPECT_FALSE(std::filesystem::exists(folder / "r.h5.parts"));
  const Outcome again = sweep(folder, two_steps);
  EXPECT_NE(again.err.find("sweep: 0 of 2 runs"), std::string::npos) << again.err;

  folder.write("read.py", R"(
import csv, h5py
with h5py.File("r.h5") as file:
    runs, steps = file["runs"][...], file["steps"][...]
    assert file.attrs["format"] == "causeway-sweep" and file.attrs["seed"] == 1
    for name, table in file.items():
        assert table.maxshape == (None,) and table.attrs["meaning"]
        for column in table.dtype.names:
            assert table.attrs[column + " meaning"], column
            assert column + " unit" in table.attrs, column
    assert file["steps"].attrs["step_ms unit"] == "ms"
    assert [text.count("--topics step") for text in file.attrs["commands"]] == [1], "resumed: the same command"
assert sorted(runs["ranks"]) == [1, 2] and not runs["exit"].any(), runs
assert (steps["step_ms"] > 0).all() and (steps["memory_bytes"] > 0).all()
of = {run["run"]: run["ranks"] for run in runs}
assert all((step["bytes_sent"] > 0) == (of[step["run"]] == 2) for step in steps), steps
for run in runs:
    assert b"bench step" in run["command"] and b"mpirun -n %d " % run["ranks"] in run["command"], run["command"]
    assert run["program"] and run["revision"] and run["host"] and run["machine_memory"] > 0 and run["cores"] > 0, run
    assert run["load"] >= 0 and run["elsewhere"] >= 0, run
)");
  const Outcome read = shell(folder, fmt::format("'{}' read.py", python_with(modules)));
  EXPECT_EQ(read.exit, 0) << read.err;
}

TEST(SweepScript, ASignalEndsWith75AndLeavesACompleteFile) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_program(folder);
  EXPECT_EQ(stopped_with(folder, "TERM").exit, 75);
  EXPECT_NE(bytes_of(folder / "err").find("the same command runs the rest"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(folder / "r.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder / "r.h5.parts"));
  EXPECT_NE(sweep(folder, "--list --repeats 1 --topics step --ranks 1,2 --tokens 128").out, "");
}

/// Reads r.h5 and the CSV files: every cell is the same, of every table, with the configuration of its run.
constexpr const char* compare_csv = R"(
import csv, h5py, math, os
def text(value):
    return value.decode() if isinstance(value, bytes) else value
with h5py.File("r.h5") as file:
    tables = {name: table[...] for name, table in file.items()}
runs = {text(run["run"]): run for run in tables["runs"]}
for name, table in tables.items():
    path = "r-" + name + ".csv"
    assert os.path.exists(path) == (len(table) > 0), name
    rows = list(csv.DictReader(open(path, encoding="utf-8"))) if len(table) else []
    assert len(rows) == len(table), name
    for row, record in zip(rows, table):
        run = runs[text(record["run"])]
        assert set(row) == set(table.dtype.names) | set(tables["runs"].dtype.names), name
        for column, cell in row.items():
            value = text(record[column] if column in table.dtype.names else run[column])
            if isinstance(value, str):
                assert cell == value, (name, column, cell, value)
            elif math.isnan(value):
                assert cell == "", (name, column, cell)
            else:
                assert float(cell or 0) == value, (name, column, cell, value)
try:
    import pandas
except ImportError:
    pass
else:
    for name, table in tables.items():
        assert len(pandas.DataFrame(table)) == len(table) and list(pandas.DataFrame(table)) == list(table.dtype.names)
)";

TEST(SweepScript, CsvFilesAndHdf5HaveTheSameAndAFailedRunStopsNothing) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  write_program(folder);
  folder.write("go", "");
  // Attention has no strategy "none": the program refuses it, before or after the other runs.
  const std::string two =
      "--causeway ./program --topics step,strategies --operator causal_conv --seconds 0 --ranks 1,2 "
      "--tokens 128 --repeats 1 --bench='--steps 1' --model sh2-tiny --seed 3 "
      "--strategy 'auto;attention=none'";
  const Outcome outcome = sweep(folder, two);
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("FAILED with"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("2 runs failed; the first: causeway"), std::string::npos) << outcome.out;
  folder.write("read.py", compare_csv);
  const Outcome read = shell(folder, fmt::format("'{}' read.py", python_with(modules)));
  EXPECT_EQ(read.exit, 0) << read.err;
  folder.write("failed.py", R"(
import h5py
runs = h5py.File("r.h5")["runs"][...]
failed = runs[runs["exit"] != 0]
assert len(runs) == 5 and len(failed) == 2, runs
assert all(run["strategy"] == b"attention=none" and b"none" in run["error"] for run in failed), failed
)");
  const Outcome failed = shell(folder, fmt::format("'{}' failed.py", python_with(modules)));
  EXPECT_EQ(failed.exit, 0) << failed.err;
  // What failed is not run again, unless that is asked for.
  EXPECT_EQ(sweep(folder, two + " --list").out, "\n");
  EXPECT_EQ(std::ranges::count(sweep(folder, two + " --list --retry").out, '\n'), 2);
}

TEST(SweepScript, TheOrderIsRandomAndFollowsFromTheSeed) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const auto order = [&](int seed) { return sweep(folder, fmt::format("--list --seed {}", seed)).out; };
  const std::string first = order(1), second = order(2);
  EXPECT_EQ(first, order(1));
  EXPECT_NE(first, second);
  const auto sorted = [](const std::string& text) {
    std::istringstream lines(text);
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);) found.push_back(line);
    EXPECT_FALSE(std::ranges::is_sorted(found));
    std::ranges::sort(found);
    return found;
  };
  EXPECT_EQ(sorted(first), sorted(second)) << "another order of the same runs";
  EXPECT_EQ(sorted(first).size(), 3 * (4 * 2 + 3 * 2 * 3 + 1)) << "steps, strategies, operators, three times each";
}

/// Results of two machines in one file.
TEST(SweepScript, TakesUpTheRunsOfAnotherFile) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const auto measure = [&](const std::string& file, const std::string& ranks) {
    return shell(folder, fmt::format("'{}' {}/scripts/scaling/sweep --out {} --causeway '{}' --topics step "
                                     "--tokens 128 --repeats 1 --bench='--steps 1' --ranks {}",
                                     python_with(modules), CAUSEWAY_TEST_SOURCE, file, expanded("@causeway"), ranks));
  };
  ASSERT_EQ(measure("r.h5", "1").exit, 0);
  ASSERT_EQ(measure("other.h5", "1,2").exit, 0);
  const std::string before = bytes_of(folder / "r-step_times.csv");
  const Outcome added = sweep(folder, "--add other.h5");
  ASSERT_EQ(added.exit, 0) << added.err;
  EXPECT_EQ(added.out, "sweep: 1 runs of other.h5\n") << "the run that both have stays as it is";
  EXPECT_EQ(bytes_of(folder / "r-step_times.csv").find(before), 0U);
  EXPECT_EQ(lines_of(folder / "r-steps.csv"), 3);
  EXPECT_EQ(sweep(folder, "--add other.h5").out, "sweep: 0 runs of other.h5\n");
  folder.write("read.py", compare_csv);
  const Outcome read = shell(folder, fmt::format("'{}' read.py", python_with(modules)));
  EXPECT_EQ(read.exit, 0) << read.err;
  EXPECT_EQ(sweep(folder, "--add none.h5").exit, 2);
}

TEST(SweepScript, MeasuresStrategiesAndOperators) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  const Outcome outcome = sweep(folder, expanded("--causeway '@causeway' --topics strategies,operators --ranks 2 "
                                                 "--tokens 128 --operator causal_conv --filter scale --seconds 0 "
                                                 "--repeats 1"));
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("causal_conv"), std::string::npos) << outcome.out;
  EXPECT_GE(lines_of(folder / "r-strategies.csv"), 5);
  EXPECT_GE(lines_of(folder / "r-operators.csv"), 2);
  EXPECT_EQ(lines_of(folder / "r-ceilings.csv"), 2);
}

TEST(SweepScript, NamesADamagedFileAndRefusesWhatCannotBe) {
  if (const std::string why = without_python(modules, python_with(modules)); !why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  folder.write("r.h5", "not HDF5");
  const auto refused = [&](const std::string& arguments, const std::string& text) {
    const Outcome outcome = sweep(folder, arguments);
    EXPECT_EQ(outcome.exit, 2) << arguments;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("Traceback"), std::string::npos) << outcome.err;
  };
  refused("--table", "r.h5: is damaged, or is no HDF5 file");
  refused("", "r.h5: is damaged, or is no HDF5 file");
  EXPECT_EQ(bytes_of(folder / "r.h5"), "not HDF5") << "a damaged file is not replaced";
  refused("--rank 2", "unrecognized arguments: --rank 2");
  refused("--ranks 0", "--ranks has '0'");
  refused("--layout spiral", "--layout has 'spiral', expected contiguous or zigzag");
  refused("--repeats 0", "--repeats is 0");
  std::filesystem::remove(folder / "r.h5");
  refused("--causeway ./none", "--causeway ./none: no such program");
  write_program(folder);
  folder.write("without_shard", "#!/bin/sh\necho causeway 0.1\n");
  std::filesystem::permissions(folder / "without_shard", std::filesystem::perms::owner_all);
  refused("--causeway ./without_shard --shard gradients", "has no such option");
}

}  // namespace
}  // namespace causeway::test
