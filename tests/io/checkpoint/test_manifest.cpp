#include "io/checkpoint/manifest.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

Manifest manifest_of(std::int64_t ranks) {
  Manifest manifest{.step = 12, .files = {}};
  for (std::int64_t file = 0; file <= ranks; ++file) manifest.files.push_back({1000 + file, std::string(64, 'a')});
  return manifest;
}

TEST(Sha256, EqualsTheOutputOfSha256sum) {
  const TemporaryFolder folder;
  const std::string path = folder.write("abc", "abc");
  const std::string expected =
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // FIPS 180-4's example
  EXPECT_EQ(sha256_of("abc"), expected);
  EXPECT_EQ(fingerprint_of(path), (Fingerprint{3, expected}));
}

TEST(Manifest, OfAThousandRanksIsReadBack) {
  for (const std::int64_t ranks : {1, 7, 1000}) {
    const Manifest written = manifest_of(ranks), found = Manifest::parse(written.to_json(), "manifest.json");
    EXPECT_EQ(found.step, 12);
    EXPECT_EQ(found.ranks(), ranks);
    EXPECT_EQ(found.files, written.files);
  }
}

TEST(Manifest, AnyOtherFormIsDamage) {
  const std::string good = manifest_of(2).to_json();
  const auto replaced = [&](const std::string& what, const std::string& by) {
    std::string text = good;
    text.replace(text.find(what), what.size(), by);
    return text;
  };
  const std::string hash = "\"" + std::string(64, 'a') + "\"";
  for (const std::string& text : {std::string(),
                                  std::string("null"),
                                  std::string("{}"),
                                  std::string("[]"),
                                  good + "\n",
                                  good.substr(0, good.size() - 1),
                                  " " + good,
                                  std::string(1 << 20, '['),
                                  replaced("\"step\": 12", "\"step\": -12"),
                                  replaced("\"step\": 12", "\"step\": 12.0"),
                                  replaced("\"step\": 12", "\"step\": 1e400"),
                                  replaced("\"step\": 12", "\"step\": 99999999999999999999"),
                                  replaced("\"version\": 2", "\"version\": 3"),
                                  replaced("\"ranks\": 2", "\"ranks\": 3"),
                                  replaced("index.h5", "../index.h5"),
                                  replaced("shard-00000.h5", "/etc/passwd"),
                                  replaced("shard-00000.h5", "shard-00001.h5"),
                                  replaced("1000", "-1"),
                                  replaced("1000", "9223372036854775807"),
                                  replaced(hash, "12"),
                                  replaced(hash, "\"\xff\""),
                                  replaced("causeway-checkpoint", "causeway-dataset"),
                                  replaced("\"step\": 12,", "\"step\": 12,\n \"more\": 1,"),
                                  replaced("\"files\"", "\"files\": [], \"files\"")}) {
    try {
      Manifest::parse(text, "manifest.json");
      ADD_FAILURE() << "taken: " << text.substr(0, 300);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::corrupt);
      EXPECT_TRUE(std::string(error.what()).starts_with("manifest.json: ")) << error.what();
    }
  }
}

TEST(Manifest, ATooLargeFileIsNotRead) {
  const TemporaryFolder folder;
  folder.write("manifest.json", "");
  std::filesystem::resize_file(folder / "manifest.json", std::uintmax_t{1} << 40);  // without a block of it
  try {
    read_manifest(folder / "");
    ADD_FAILURE() << "read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::corrupt);
    EXPECT_NE(std::string(error.what()).find("expected at most"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway
