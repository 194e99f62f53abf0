// Chunked datasets, read through io/hdf5/chunk_reader and io/hdf5_guard: what comes out, and how often zlib works for
// it.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <zlib.h>

#include <atomic>
#include <functional>
#include <numeric>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "tests/support/temporary_folder.hpp"

namespace {
std::atomic<int> inflated_streams{0};
}

/// Takes the place of zlib's function in the whole program, libHDF5 included, and counts the calls.
extern "C" int inflateInit_(z_streamp stream, const char* version, int stream_size) {
  ++inflated_streams;
  using Function = int (*)(z_streamp, const char*, int);
  static const auto original = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "inflateInit_"));
  return original(stream, version, stream_size);
}

namespace causeway {
namespace {

using hdf5::Access;
using testing::TemporaryFolder;

int inflated_by(const std::function<void()>& call) {
  const int before = inflated_streams;
  call();
  return inflated_streams - before;
}

std::vector<std::int32_t> numbers(std::size_t count) {
  std::vector<std::int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

void write_deflated(const std::string& path, std::int64_t rows, std::int64_t chunk_rows) {
  hdf5::File file = hdf5::File::open(path, Access::create);
  file.create_dataset("x",
                      {.shape = {rows}, .type = hdf5::i32, .chunk_rows = chunk_rows, .shuffle = true, .deflate = 1})
      .write_rows<std::int32_t>(0, numbers(static_cast<std::size_t>(rows)));
}

TEST(ChunkReader, InflatesEachChunkOnceHoweverManyReadsTakeFromIt) {
  const TemporaryFolder folder;
  constexpr std::int64_t rows = 100'000, chunk_rows = 8192, chunks = 13;
  write_deflated(folder / "a.h5", rows, chunk_rows);
  const auto by_hdf5 = [&] {
    const hid_t file = H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT),
                dataset = H5Dopen2(file, "x", H5P_DEFAULT);
    std::vector<std::int32_t> values(rows);
    H5Dread(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(dataset);
    H5Fclose(file);
  };
  if (inflated_by(by_hdf5) != chunks) GTEST_SKIP() << "this libHDF5 does not call zlib where the test can count";

  const hdf5::Dataset dataset = hdf5::File::open(folder / "a.h5", Access::read).dataset("x");
  std::vector<std::int32_t> values(rows);
  EXPECT_EQ(inflated_by([&] {
              for (std::int64_t begin = 0; begin < rows; begin += 1000)
                dataset.read_rows(begin, std::span(values).subspan(static_cast<std::size_t>(begin), 1000));
            }),
            chunks);
  EXPECT_EQ(values, numbers(rows));
}

TEST(ChunkReader, ADatasetsTokensAndNamesAreInflatedOnce) {
  const TemporaryFolder folder;
  constexpr int documents = 10'000, name_chunks = 3, token_chunks = 2;
  {
    DatasetWriter writer(folder / "data.h5", 512, "test");
    for (int d = 0; d < documents; ++d) {
      writer.begin_document("document " + std::to_string(d));
      writer.append(std::vector<std::int32_t>(10, d % 500));
    }
    writer.finish();
  }
  const Dataset dataset(folder / "data.h5");
  EXPECT_EQ(inflated_by([&] { dataset.verify(); }), name_chunks + token_chunks);
  EXPECT_EQ(inflated_by([&] {
              for (int d = 0; d < documents; d += 7) ASSERT_EQ(dataset.name(d), "document " + std::to_string(d));
            }),
            0);
}

TEST(ChunkReader, ReadsChunksThatDivideEveryDimension) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
              creation = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t shape[] = {11, 5, 7}, chunk[] = {4, 2, 3};
  H5Pset_chunk(creation, 3, chunk);
  H5Pset_shuffle(creation);
  H5Pset_deflate(creation, 1);
  H5Pset_fletcher32(creation);
  const hid_t space = H5Screate_simple(3, shape, nullptr);
  const std::vector<std::int32_t> all = numbers(11 * 5 * 7);
  for (const auto& [name, type] : {std::pair{"i64", H5T_STD_I64LE}, {"i16_big_endian", H5T_STD_I16BE}}) {
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
    H5Dclose(dataset);
  }
  H5Sclose(space);
  H5Pclose(creation);
  H5Fclose(file);

  for (const char* name : {"i64", "i16_big_endian"}) {
    const hdf5::Dataset dataset = hdf5::File::open(path, Access::read).dataset(name);
    for (std::int64_t begin = 0; begin < 11; ++begin)
      for (std::int64_t end = begin + 1; end <= 11; ++end) {
        std::vector<double> values(static_cast<std::size_t>(end - begin) * 35);
        dataset.read_rows<double>(begin, values);
        EXPECT_EQ(values, std::vector<double>(all.begin() + begin * 35, all.begin() + end * 35)) << begin << ' ' << end;
      }
  }
}

TEST(ChunkReader, ShowsTheFillValueWhereTheFileHasNoChunk) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
              creation = H5Pcreate(H5P_DATASET_CREATE), text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, H5T_VARIABLE);
  const hsize_t rows = 30, chunk = 10, begin = 10, some = 5;
  H5Pset_chunk(creation, 1, &chunk);
  const hid_t space = H5Screate_simple(1, &rows, nullptr), few = H5Screate_simple(1, &some, nullptr),
              part = H5Scopy(space);
  H5Sselect_hyperslab(part, H5S_SELECT_SET, &begin, nullptr, &some, nullptr);
  const hid_t strings = H5Dcreate2(file, "strings", text, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  const char* words[] = {"a", "b", "c", "d", "e"};
  H5Dwrite(strings, text, few, part, H5P_DEFAULT, words);
  const std::int32_t filler = -3, values[] = {1, 2, 3, 4, 5};
  H5Pset_fill_value(creation, H5T_NATIVE_INT32, &filler);
  const hid_t dataset = H5Dcreate2(file, "x", H5T_STD_I16LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  H5Dwrite(dataset, H5T_NATIVE_INT32, few, part, H5P_DEFAULT, values);
  for (const hid_t id : {dataset, strings}) H5Dclose(id);
  for (const hid_t id : {space, few, part}) H5Sclose(id);
  H5Tclose(text);
  H5Pclose(creation);
  H5Fclose(file);

  const hdf5::File read = hdf5::File::open(path, Access::read);
  std::vector<float> expected(rows, -3);
  for (std::size_t i = 0; i < 5; ++i) expected[10 + i] = static_cast<float>(i + 1);
  EXPECT_EQ(read.dataset("x").read_all<float>(30), expected);
  std::vector<std::string> words_expected(rows);
  for (std::size_t i = 0; i < 5; ++i) words_expected[10 + i] = words[i];
  EXPECT_EQ(read.dataset("strings").read_strings(0, 30), words_expected);
  EXPECT_EQ(read.dataset("strings").read_strings(12, 4), (std::vector<std::string>{"c", "d", "e", ""}));
}

TEST(ChunkReader, RefusesAChunkThatInflatesToAnotherSize) {
  const TemporaryFolder folder;
  write_deflated(folder / "a.h5", 1000, 1000);
  std::vector<Bytef> packed(compressBound(2000));
  uLongf size = packed.size();
  const std::vector<Bytef> half(2000, 7);
  compress(packed.data(), &size, half.data(), half.size());
  const hid_t file = H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT),
              dataset = H5Dopen2(file, "x", H5P_DEFAULT);
  const hsize_t first = 0;
  H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, &first, size, packed.data());
  H5Dclose(dataset);
  H5Fclose(file);
  try {
    hdf5::File::open(folder / "a.h5", Access::read).dataset("x").read_all<std::int32_t>(1000);
    ADD_FAILURE() << "was read";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a.h5:/x: a chunk has 2000 bytes, expected 4000"), std::string::npos)
        << error.what();
  }
}

TEST(ChunkReader, NamesRowsThatAListOfStringsDoesNotHave) {
  const TemporaryFolder folder;
  {
    hdf5::File::open(folder / "a.h5", Access::create)
        .create_dataset("s", {.shape = {3}, .type = hdf5::string, .chunk_rows = 2})
        .write_strings(0, std::vector<std::string>{"one", "two", "three"});
  }
  const hdf5::Dataset dataset = hdf5::File::open(folder / "a.h5", Access::read).dataset("s");
  EXPECT_EQ(dataset.read_strings(1, 2), (std::vector<std::string>{"two", "three"}));
  EXPECT_TRUE(dataset.read_strings(3, 0).empty());
  for (const std::int64_t begin : {std::int64_t{-1}, std::int64_t{2}, INT64_MAX})
    EXPECT_THROW(dataset.read_strings(begin, 2), Error) << begin;
}

}  // namespace
}  // namespace causeway
