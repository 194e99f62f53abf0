#include "io/checkpoint/checkpoint_index.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstdlib>
#include <filesystem>

#include "io/checkpoint/hyperslabs.hpp"
#include "tests/io/checkpoint_support.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;
using Part = hdf5::VirtualDataset::Part;

TEST(CheckpointIndex, LooksToOtherProgramsLikeAPlainFile) {
  const TemporaryFolder folder;
  on_ranks(5, [&](Communicator& world) { write(folder / "run", 5, world); });
  {
    hdf5::File plain = hdf5::File::open(folder / "plain.h5", hdf5::Access::create);
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      const auto raw = elements(n, {0, tensors[n].shape.size()}, 5);
      hdf5::Dataset dataset = plain.create_dataset(
          tensors[n].name, {.shape = extents_of(tensors[n].shape), .type = stored_as(tensors[n].dtype)});
      dispatch(tensors[n].dtype, [&]<class T>() {
        std::vector<double> values;
        for (std::int64_t i = 0; i < tensors[n].shape.size(); ++i)
          values.push_back(static_cast<double>(static_cast<Accumulator<T>>(reinterpret_cast<const T*>(raw.data())[i])));
        dataset.write_rows(0, std::span<const double>(values));
      });
    }
    plain.close();
  }
  const std::string index = folder / "run/step-5/index.h5";
  const auto quietly = [](const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()); };
  if (quietly("h5diff --version") != 0) GTEST_SKIP() << "no h5diff here";
  for (const Whole& tensor : tensors) {
    EXPECT_EQ(quietly(fmt::format("h5diff {} {} /{} /{}", index, folder / "plain.h5", tensor.name, tensor.name)), 0)
        << tensor.name;
    for (const std::string& file : {index, folder / "plain.h5"})
      EXPECT_EQ(quietly(fmt::format("h5dump -d /{} -y -o {}.txt {}", tensor.name, file, file)), 0);
    EXPECT_EQ(testing::bytes_of(index + ".txt"), testing::bytes_of(folder / "plain.h5.txt")) << tensor.name;
  }
  // The elements of a missing shard must not look like values.
  std::filesystem::remove(folder / "run/step-5/shard-00000.h5");
  EXPECT_NE(quietly(fmt::format("h5diff {} {} /parameters/matrix /parameters/matrix", index, folder / "plain.h5")), 0);
}

/// An index with one tensor of [6, 4] elements and these mappings.
std::string index_of(const TemporaryFolder& folder, const std::vector<Part>& parts) {
  hdf5::File file = hdf5::File::open(folder / "index.h5", hdf5::Access::create);
  file.create_virtual("parameters/x", {.shape = {6, 4}, .type = hdf5::f32, .parts = parts});
  file.close();
  return folder / "index.h5";
}

TEST(CheckpointIndex, RefusesOtherFilesThanItsShards) {
  const TemporaryFolder folder;
  const auto parts_of = [&](const std::vector<Part>& parts) {
    return tensor_parts(hdf5::File::open(index_of(folder, parts), hdf5::Access::read), "parameters/x", 2);
  };
  const auto shard = [](const std::string& file, std::int64_t row, std::int64_t rows, std::int64_t from = 0) {
    return Part{.file = file, .start = {row, 0}, .extent = {rows, 4}, .source_begin = from};
  };
  const std::string a = "shard-00000.h5", b = "shard-00001.h5";
  const TensorParts good = parts_of({shard(a, 0, 2), shard(b, 2, 4)});
  EXPECT_EQ(good.parts, (std::vector<TensorParts::Part>{{0, {0, 8}}, {1, {8, 24}}}));
  EXPECT_EQ(parts_of({shard(b, 0, 6)}).parts, (std::vector<TensorParts::Part>{{1, {0, 24}}}));

  const std::vector<std::vector<Part>> bad{
      {},                                                    // nothing
      {shard(a, 0, 2)},                                      // not all
      {shard(a, 0, 2), shard(b, 3, 3)},                      // a gap
      {shard(a, 0, 3), shard(b, 2, 4)},                      // an overlap
      {shard(a, 0, 2), shard(a, 0, 2), shard(b, 2, 4)},      // twice the same
      {shard(b, 0, 2), shard(a, 2, 4)},                      // another order
      {shard(a, 2, 4), shard(b, 0, 2)},                      // another order
      {shard(a, 0, 2), shard(b, 2, 2), shard(a, 4, 2)},      // and back
      {shard(a, 0, 2, 1), shard(b, 2, 4)},                   // not from the shard's first element
      {shard(a, 0, 2), shard(b, 2, 3), shard(b, 5, 1, 13)},  // a gap in the shard
      {shard(a, 0, 1), shard(a, 1, 1, 4), shard(b, 2, 4)},   // not in the fewest slabs
      {{.file = a, .start = {0, 0}, .extent = {6, 2}, .source_begin = 0},
       {.file = b, .start = {0, 2}, .extent = {6, 2}, .source_begin = 0}}};
  for (std::size_t row = 0; row < bad.size(); ++row)
    EXPECT_EQ(code_of([&] { parts_of(bad[row]); }, "index.h5:/parameters/x"), ExitCode::corrupt) << row;
  for (const std::string file :
       {"shard-00002.h5", "../shard-00000.h5", "./shard-00000.h5", "/etc/shard-00000.h5", "shard-0.h5",
        "shard-000000.h5", ".", "index.h5", "shard--0001.h5", "shard-99999999999999999999.h5", "manifest.json"})
    EXPECT_EQ(code_of([&] { parts_of({shard(file, 0, 6)}); }, "index.h5:/parameters/x"), ExitCode::corrupt) << file;
}

/// Mappings that create_virtual() cannot write.
TEST(CheckpointIndex, RefusesOtherPathsGrowingSourcesAndLinks) {
  const TemporaryFolder folder;
  const auto parts = [&] {
    tensor_parts(hdf5::File::open(folder / "index.h5", hdf5::Access::read), "parameters/x", 2);
  };
  const auto with_file = [&](const std::function<void(hid_t file)>& body) {
    const hid_t file = H5Fcreate((folder / "index.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t group = H5Gcreate2(file, "parameters", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    body(file);
    H5Gclose(group);
    H5Fclose(file);
  };
  enum class Selected { all, whole, every_other, growing, numbered };
  const auto map = [&](Selected selected, const char* source_file, const char* source_path) {
    with_file([&](hid_t file) {
      const hsize_t extents[] = {24}, begin[] = {0}, stride[] = {2}, count[] = {12}, unlimited[] = {H5S_UNLIMITED};
      const bool grows = selected == Selected::growing || selected == Selected::numbered;
      const hid_t space = H5Screate_simple(1, extents, grows ? unlimited : extents),
                  creation = H5Pcreate(H5P_DATASET_CREATE);
      const hid_t from = H5Screate_simple(1, extents, grows ? unlimited : extents);
      for (const hid_t each : {space, from}) {
        if (selected == Selected::whole) H5Sselect_hyperslab(each, H5S_SELECT_SET, begin, nullptr, extents, nullptr);
        if (selected == Selected::every_other) H5Sselect_hyperslab(each, H5S_SELECT_SET, begin, stride, count, nullptr);
        if (selected == Selected::growing)
          H5Sselect_hyperslab(each, H5S_SELECT_SET, begin, nullptr, unlimited, nullptr);
      }
      if (selected == Selected::numbered)
        H5Sselect_hyperslab(space, H5S_SELECT_SET, begin, extents, unlimited, extents);
      H5Pset_virtual(creation, space, source_file, source_path, from);
      const hid_t dataset = H5Dcreate2(file, "parameters/x", H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
      EXPECT_GE(dataset, 0);
      H5Dclose(dataset);
      H5Pclose(creation);
      H5Sclose(from);
      H5Sclose(space);
    });
  };
  map(Selected::whole, "shard-00000.h5", "/parameters/x");
  EXPECT_NO_THROW(parts());
  map(Selected::whole, "shard-00000.h5", "/parameters/y");
  EXPECT_EQ(code_of(parts, "expected a dataset of the same path"), ExitCode::corrupt);
  for (const Selected other : {Selected::all, Selected::every_other, Selected::growing}) {
    map(other, "shard-00000.h5", "/parameters/x");
    EXPECT_EQ(code_of(parts, "index.h5:/parameters/x"), ExitCode::corrupt) << static_cast<int>(other);
  }
  map(Selected::numbered, "shard-%b.h5", "/parameters/x");
  EXPECT_EQ(code_of(parts, "index.h5:/parameters/x"), ExitCode::corrupt);
  with_file([](hid_t file) { H5Lcreate_soft("/elsewhere", file, "parameters/x", H5P_DEFAULT, H5P_DEFAULT); });
  EXPECT_EQ(code_of(parts, "is a link to elsewhere"), ExitCode::corrupt);
  with_file(
      [](hid_t file) { H5Lcreate_external("/etc/other.h5", "/x", file, "parameters/x", H5P_DEFAULT, H5P_DEFAULT); });
  EXPECT_EQ(code_of(parts, "is a link to elsewhere"), ExitCode::corrupt);
}

}  // namespace
}  // namespace causeway::test
