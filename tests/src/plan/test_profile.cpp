#include "src/plan/profile.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/src/plan/small_profile.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using Json = nlohmann::ordered_json;

std::string refusal(const std::string& text) {
  try {
    parse_profile(text, "cluster.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

/// The refusal of the small profile with the value at `place` replaced.
std::string refusal_of(const std::string& place, const Json& value) {
  Json json = to_json(small_profile());
  json[Json::json_pointer(place)] = value;
  return refusal(json.dump());
}

void expect_names(const std::string& message, const std::string& member) {
  EXPECT_NE(message.find("cluster.json"), std::string::npos) << member << ": '" << message << "'";
  EXPECT_NE(message.find(member), std::string::npos) << member << ": '" << message << "'";
}

TEST(Profile, IsTheSameAfterItWasWrittenAndRead) {
  for (const Profile& profile :
       {small_profile(), built_in_profiles().front().make(), built_in_profiles().back().make()}) {
    const Json json = to_json(profile);
    const Profile read = parse_profile(json.dump(), "text");
    EXPECT_EQ(to_json(read), json);
    EXPECT_EQ(read.machine.kernels.size(), profile.machine.kernels.size());
    EXPECT_EQ(read.machine.kernels.back().kernel, profile.machine.kernels.back().kernel);
    EXPECT_EQ(read.network.all_bytes_per_s, profile.network.all_bytes_per_s);
  }
}

TEST(Profile, EveryMemberIsNeeded) {
  const Json json = to_json(small_profile());
  for (const auto& [member, value] : json.items()) {
    if (member == "sources") continue;
    Json without = json;
    without.erase(member);
    expect_names(refusal(without.dump()), member);
  }
}

TEST(Profile, NumbersOutOfRangeAreRefusedByName) {
  const Json flat = to_json(small_profile()).flatten();
  for (const auto& [place, value] : flat.items()) {
    if (!value.is_number()) continue;
    const std::string member = place.substr(place.rfind('/') + 1);
    for (const Json& wrong : {Json(-1), Json("1"), Json(nullptr), Json(Json::array()), Json(1e300)})
      expect_names(refusal_of(place, wrong), member);
  }
  expect_names(refusal_of("/copy_bytes_per_s", 0), "copy_bytes_per_s");
  expect_names(refusal_of("/ranks_per_host", 1.5), "ranks_per_host");
  expect_names(refusal_of("/overlap", 1.01), "overlap");
  expect_names(refusal_of("/gemm_in_step", 0), "gemm_in_step");
  expect_names(refusal_of("/kernels/3/element_s", -1e-12), "kernels[3]: element_s");
}

TEST(Profile, UnknownMembersAndNamesAreRefused) {
  expect_names(refusal_of("/copy_byte_per_s", 1), "'copy_byte_per_s'; did you mean 'copy_bytes_per_s'?");
  expect_names(refusal_of("/link/speed", 1), "link: unknown member 'speed'");
  expect_names(refusal_of("/gemm_flops_per_s/f16", 1), "gemm_flops_per_s: unknown member 'f16'");
  expect_names(refusal_of("/kernels/0/kind", "warp"), "kernels[0]: kind is 'warp'");
  expect_names(refusal_of("/device", "tpu"), "device");
  expect_names(refusal_of("/dtype", "i32"), "dtype is 'i32'");
  expect_names(refusal_of("/dtype", "f64"), "gemm_flops_per_s has no rate for dtype f64");
  expect_names(refusal_of("/format", "causeway-plan"), "format");
  expect_names(refusal_of("/version", 2), "version");
  expect_names(refusal_of("/sources/kernels", 7), "kernels");
}

TEST(Profile, DamagedFilesAreRefused) {
  const std::string text = to_json(small_profile()).dump();
  for (std::size_t length = 0; length < text.size(); length += 97)
    expect_names(refusal(text.substr(0, length)), "JSON");
  for (const char* other : {"[]", "7", "null", "\"text\""}) expect_names(refusal(other), "expected an object");
  EXPECT_NE(refusal(std::string(100'000, '[')), "");
}

TEST(Profile, IsFoundByNameOrAsAFile) {
  const testing::TemporaryFolder folder;
  folder.write("cluster.json", to_json(small_profile()).dump());
  EXPECT_EQ(read_profile(folder / "cluster.json").name, "small");
  EXPECT_EQ(read_profile("h200-ndr400").name, "h200-ndr400");
  for (const std::string& missing : {std::string("h200-ndr40"), folder / "none.json"}) {
    try {
      read_profile(missing);
      ADD_FAILURE() << missing;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("--profile"), std::string::npos) << error.what();
    }
  }
}

TEST(Profile, BuiltInFiguresHaveSources) {
  for (const BuiltInProfile& known : built_in_profiles()) {
    const Profile profile = known.make();
    EXPECT_EQ(profile.name, known.name);
    for (const char* member : {"gemm_flops_per_s", "link", "network", "kernels", "copy_bytes_per_s"})
      EXPECT_TRUE(profile.sources.contains(member)) << member;
    for (const auto& [member, text] : profile.sources) EXPECT_TRUE(to_json(profile).contains(member)) << member;
  }
}

/// Bytes for ranks of the same host and of others leave at the same time, by different links.
TEST(Profile, AGroupOverHostsSendsOverTheNetwork) {
  const Profile profile = small_profile();
  const Machine inside = machine_of_group(profile, 4), two_hosts = machine_of_group(profile, 8);
  EXPECT_EQ(inside.bytes_per_s, 2e11);
  EXPECT_EQ(inside.all_bytes_per_s, 1e11);
  EXPECT_EQ(inside.latency_s, 1e-5);
  EXPECT_EQ(two_hosts.bytes_per_s, 1e10);
  EXPECT_EQ(two_hosts.latency_s, 2e-5);
  EXPECT_NEAR(two_hosts.all_bytes_per_s, 5e9 * 7 / 4, 1);  // 4 of 7 parts go over the network
  EXPECT_EQ(inside.message_s, 1e-6);
  EXPECT_NEAR(two_hosts.message_s, 2e-6 * 4 / 7, 1e-12);
  EXPECT_NEAR(machine_of_group(profile, 5).message_s, 1e-6 * 3 / 4, 1e-12);
  // With few parts for other hosts the host's links take longest.
  Profile fast = profile;
  fast.network.all_bytes_per_s = 9e10;
  EXPECT_NEAR(machine_of_group(fast, 5).all_bytes_per_s, 1e11 * 4 / 3, 1);
}

}  // namespace
}  // namespace causeway::test
