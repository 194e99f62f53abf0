// inspect --verify: everything in the file is read, and what contradicts the documents is found.
#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;

std::string written(const TemporaryFolder& folder) {
  DatasetWriter writer(folder / "data.h5", 512, "test", {.loss_mask = true});
  for (const std::size_t length : {3u, 0u, 70u}) {
    writer.begin_document("document of " + std::to_string(length));
    writer.append(std::vector<std::int32_t>(length, 65), std::vector<std::uint8_t>(length, 1));
  }
  writer.finish();
  return folder / "data.h5";
}

void change(const std::string& path, const std::function<void(hdf5::File&)>& work) {
  auto file = hdf5::File::open(path, hdf5::Access::update);
  work(file);
  file.close();
}

/// The text of the error of verify(), which must be Error(corrupt); or its notes.
std::string verified(const std::string& path) {
  try {
    std::string notes;
    for (const std::string& note : Dataset(path).verify()) notes += note + "\n";
    return notes;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::corrupt) << error.what();
    return error.what();
  }
}

void replace_bytes(const std::string& path, std::string_view from, std::string_view to) {
  std::string bytes = testing::bytes_of(path);
  ASSERT_NE(bytes.find(from), std::string::npos);
  bytes.replace(bytes.find(from), to.size(), to);
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Verify, FindsAttributesAndStatisticsThatDoNotFitTheDocuments) {
  struct Contradiction {
    std::function<void(hdf5::File&)> make;
    std::string expected;
  };
  const std::vector<Contradiction> table = {
      {[](hdf5::File& f) { f.set_attribute("documents", std::int64_t{4}); }, "attribute documents is 4, expected 3"},
      {[](hdf5::File& f) { f.set_attribute("tokens", std::int64_t{72}); }, "attribute tokens is 72, expected 73"},
      {[](hdf5::File& f) { f.set_attribute("min_length", std::int64_t{3}); }, "attribute min_length is 3, expected 0"},
      {[](hdf5::File& f) { f.set_attribute("max_length", std::int64_t{71}); }, "max_length is 71, expected 70"},
      {[](hdf5::File& f) { f.set_attribute("mean_length", 24.0); }, "attribute mean_length is 24, expected 24.3"},
      {[](hdf5::File& f) { f.set_attribute("mean_length", std::nan("")); }, "attribute mean_length is nan"},
      {[](hdf5::File& f) {
         f.remove("statistics/length_histogram");
         f.write<std::int64_t>("statistics/length_histogram", {8}, std::vector<std::int64_t>{1, 0, 1, 0, 0, 0, 0, 2});
       },
       "data.h5:/statistics/length_histogram: bin 7 is 2, expected 1"},
  };
  for (const Contradiction& row : table) {
    const TemporaryFolder folder;
    const std::string path = written(folder);
    EXPECT_EQ(verified(path), "");
    change(path, row.make);
    EXPECT_NE(verified(path).find(row.expected), std::string::npos) << verified(path);
  }
}

TEST(Verify, FindsDamageInAllObjectsKnownOrNot) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  change(path, [](hdf5::File& f) {
    hdf5::Dataset extra = f.create_dataset("more/inside/values",
                                           {.shape = {1000}, .type = hdf5::i64, .chunk_rows = 100, .fletcher32 = true});
    std::vector<std::int64_t> values(1000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0x5f4e3d2c1b0a0000 + static_cast<std::int64_t>(i);
    extra.write_rows<std::int64_t>(0, values);
    extra.set_attribute("unit", std::string("some unit of this"));
    f.create_dataset("words", {.shape = {2}, .type = hdf5::string})
        .write_strings(0, std::vector<std::string>{"one word", "another"});
  });
  EXPECT_EQ(verified(path), "");
  const std::string good = testing::bytes_of(path);
  replace_bytes(path, "\x0a\x1b", "\x0a\x1c");  // a value of the unknown dataset
  EXPECT_NE(verified(path).find("data.h5:/more/inside/values"), std::string::npos) << verified(path);
  folder.write("data.h5", good);
  replace_bytes(path, "length_histogram", "longth_histogram");  // the link, in a group with a checksum
  EXPECT_NE(verified(path), "");
  folder.write("data.h5", good);
  replace_bytes(path, "document of 70", "document of 71");
  EXPECT_NE(verified(path).find("data.h5:/names: the checksum"), std::string::npos) << verified(path);
}

TEST(Verify, SaysWhatItCouldNotCheck) {
  const TemporaryFolder folder;
  const std::string path = written(folder);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hsize_t four = 4;
  const hid_t space = H5Screate_simple(1, &four, nullptr), type = H5Tcreate(H5T_COMPOUND, 8);
  H5Tinsert(type, "a", 0, H5T_STD_I32LE);
  H5Tinsert(type, "b", 4, H5T_IEEE_F32LE);
  H5Dclose(H5Dcreate2(file, "pairs", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  H5Aclose(H5Acreate2(file, "list", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT));
  H5Lcreate_soft("/tokens", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
  const hid_t group = H5Gcreate2(file, "circle", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_hard(file, "circle", group, "itself", H5P_DEFAULT, H5P_DEFAULT);
  for (const hid_t object : {group}) H5Gclose(object);
  H5Tclose(type);
  H5Sclose(space);
  H5Fclose(file);
  const std::string notes = verified(path);
  EXPECT_NE(notes.find("/pairs: has "), std::string::npos) << notes;
  EXPECT_NE(notes.find("attribute list has 4 values"), std::string::npos) << notes;
  EXPECT_NE(notes.find("/soft: is a link"), std::string::npos) << notes;
  EXPECT_EQ(std::ranges::count(notes, '\n'), 3) << notes;
}

}  // namespace
}  // namespace causeway
