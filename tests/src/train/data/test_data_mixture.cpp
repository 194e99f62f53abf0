#include "src/train/data/data_mixture.hpp"

#include <gtest/gtest.h>

#include "kernels/core/error.hpp"
#include "tests/src/train/data/numbered_dataset.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(DataMixture, RefusesPacksThatWouldOnlyRepeatTheData) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", lengths);
  const DataMixture data = DataMixture::open({folder / "a.h5"}, 512);
  data.refuse_too_large_packs(8192);
  data.refuse_too_large_packs(1 << 20);
  EXPECT_THROW(data.refuse_too_large_packs(std::int64_t{1} << 40), Error);
}

TEST(DataMixture, RefusesDatasetsThatCannotBeTrainedOn) {
  const TemporaryFolder folder;
  write_dataset(folder / "a.h5", {10});
  write_dataset(folder / "empty.h5", {0, 0});
  for (const std::string& source : {(folder / "a.h5") + ":0", (folder / "a.h5") + ":-1", (folder / "a.h5") + ":inf",
                                    (folder / "a.h5") + ":x", folder / "empty.h5", folder / "nowhere.h5"})
    EXPECT_THROW(DataMixture::open({source}, 512), Error) << source;
  EXPECT_THROW(DataMixture::open({folder / "a.h5"}, 511), Error);
  EXPECT_THROW(DataMixture::open({}, 512), Error);
}

}  // namespace
}  // namespace causeway::test
