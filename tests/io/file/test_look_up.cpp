#include "io/file/look_up.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

TEST(LookUp, AFileInAFilesPlaceAndLinksThatLeadNowhereAreNothing) {
  const testing::TemporaryFolder folder;
  folder.write("file", "x");
  fs::create_symlink("loop", folder / "loop");
  fs::create_symlink("absent", folder / "broken");
  EXPECT_EQ(kind_of(folder / "file"), fs::file_type::regular);
  for (const char* name : {"absent", "file/below", "loop", "loop/below", "broken"})
    EXPECT_EQ(kind_of(folder / name), fs::file_type::not_found) << name;
  EXPECT_TRUE(is_there(folder / "broken"));
  EXPECT_TRUE(is_there(folder / "loop"));
  for (const char* name : {"absent", "file/below", "loop/below"}) EXPECT_FALSE(is_there(folder / name)) << name;
}

}  // namespace
}  // namespace causeway
