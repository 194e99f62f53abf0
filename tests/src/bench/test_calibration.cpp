/// `causeway bench profile`: a profile of this machine, which `causeway plan` reads.

#include <gtest/gtest.h>

#include "src/plan/profile.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(BenchProfile, APlanReadsWhatItWrites) {
  const TemporaryFolder folder;
  for (const char* ranks : {"1", "2"}) {
    const Outcome measured = shell(
        folder,
        std::string("@causeway bench profile --model sh2-tiny --tokens 512 --profile here.json --ranks ") + ranks);
    ASSERT_EQ(measured.exit, 0) << measured.err;
    const Profile profile = read_profile(folder / "here.json");
    EXPECT_EQ(profile.device, Device::cpu);
    EXPECT_EQ(profile.dtype, DType::f32);
    EXPECT_EQ(profile.ranks_per_host, ranks[0] - '0');
    EXPECT_EQ(profile.sources.contains("link"), ranks[0] == '1');
    const Outcome plan =
        shell(folder, "@causeway plan --model sh2-tiny --pack-tokens 512 --ranks 2 --profile here.json");
    EXPECT_EQ(plan.exit, 0) << plan.err;
    EXPECT_NE(plan.out.find("fits         yes"), std::string::npos) << plan.out;
    // No layer of this model scans, so the profile has no rate of a scan.
    const Outcome other = shell(folder, "@causeway plan --model mamba-tiny --ranks 2 --profile here.json");
    EXPECT_EQ(other.exit, 2);
    EXPECT_NE(other.err.find("selective_scan"), std::string::npos) << other.err;
  }
}

TEST(BenchProfile, NeedsAFileToWrite) {
  const TemporaryFolder folder;
  for (const auto& [options, named] : std::vector<std::pair<std::string, std::string>>{
           {"", "--profile is missing"},
           {"--profile .", "."},
           {"--profile here.json --tokens 0", "--tokens"},
           {"--profile here.json --width 0 --layers nothing", "nothing"}}) {
    const Outcome outcome = shell(folder, "@causeway bench profile --model sh2-tiny " + options);
    EXPECT_EQ(outcome.exit, 2) << options;
    EXPECT_NE(outcome.err.find(named), std::string::npos) << options << ": " << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
