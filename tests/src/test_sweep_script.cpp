/// scripts/scaling/sweep with the program: what it measures, and what a stop, a kill or a damaged file leave.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

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
assert sorted(runs["ranks"]) == [1, 2] and not runs["exit"].any(), runs
assert (steps["step_ms"] > 0).all() and (steps["memory_bytes"] > 0).all()
of = {run["run"]: run["ranks"] for run in runs}
assert all((step["bytes_sent"] > 0) == (of[step["run"]] == 2) for step in steps), steps
rows = list(csv.DictReader(open("r-steps.csv")))
assert sorted(row["ranks"] for row in rows) == ["1", "2"] and float(rows[0]["step_ms"]) > 0
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
