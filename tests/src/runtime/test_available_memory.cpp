#include "src/runtime/available_memory.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Files of /proc and /sys as a machine with 8 GiB available has them.
class Machine {
 public:
  Machine() {
    write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n");
  }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(folder_ / path).parent_path());
    folder_.write(path, text);
  }
  std::optional<double> available() const { return available_host_memory(folder_ / ""); }

 private:
  TemporaryFolder folder_;
};

constexpr double gib = 1 << 30;

TEST(AvailableMemory, IsMemAvailableWithoutControlGroups) { EXPECT_EQ(Machine().available(), 8 * gib); }

TEST(AvailableMemory, IsNotKnownWithoutProc) {
  const TemporaryFolder folder;
  EXPECT_EQ(available_host_memory(folder / ""), std::nullopt);
}

TEST(AvailableMemory, IsWhatEveryControlGroupLeaves) {
  Machine machine;
  machine.write("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  machine.write("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
  machine.write("sys/fs/cgroup/slurm/job_7/step_0/memory.current", "1048576\n");
  EXPECT_EQ(machine.available(), 8 * gib);
  // The group above has the limit: 4 GiB, of which 1 GiB is used, half of that by caches that can be dropped.
  machine.write("sys/fs/cgroup/slurm/job_7/memory.max", "4294967296\n");
  machine.write("sys/fs/cgroup/slurm/job_7/memory.current", "1073741824\n");
  machine.write("sys/fs/cgroup/slurm/job_7/memory.stat", "anon 536870912\nfile 536870912\ninactive_file 536870912\n");
  EXPECT_EQ(machine.available(), 3.5 * gib);
  machine.write("sys/fs/cgroup/slurm/job_7/memory.current", "5368709120\n");  // over its limit
  machine.write("sys/fs/cgroup/slurm/job_7/memory.stat", "");
  EXPECT_EQ(machine.available(), 0);
}

TEST(AvailableMemory, ReadsControlGroupsOfVersion1) {
  Machine machine;
  machine.write("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/x\n0::/\n");
  machine.write("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "2147483648\n");
  machine.write("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "1073741824\n");
  machine.write("sys/fs/cgroup/memory/docker/x/memory.stat", "cache 1\ntotal_inactive_file 0\n");
  EXPECT_EQ(machine.available(), gib);
}

TEST(AvailableMemory, ThisMachinesIsKnown) {
  EXPECT_GT(available_host_memory().value_or(0), 0);
  EXPECT_GT(resident_bytes(), 1 << 20);
}

}  // namespace
}  // namespace causeway::test
