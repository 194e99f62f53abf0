#include "io/hdf5/hdf5.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <functional>
#include <thread>

#include "io/file/atomic_file.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using hdf5::Access;
using testing::TemporaryFolder;

/// The text of the Error that a call throws, or "".
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
void expect_error(const std::string& part, const std::function<void()>& call) {
  const std::string found = error_of(call);
  EXPECT_NE(found.find(part), std::string::npos) << "found '" << found << "', expected '" << part << "'";
}

TEST(Hdf5, ReadsRowsBackInEveryType) {
  const TemporaryFolder folder;
  hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
  std::vector<std::int32_t> values(5 * 6);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(i);
  for (const hdf5::ElementType type : {hdf5::f64, hdf5::f32, hdf5::i64, hdf5::i32, hdf5::u32, hdf5::u16, hdf5::u8}) {
    const std::string name = "deep/er/" + type.to_string();
    hdf5::Dataset dataset = file.create_dataset(name, {.shape = {5, 2, 3}, .type = type});
    dataset.write_rows<std::int32_t>(0, std::span(values).first(12));
    dataset.write_rows<std::int32_t>(2, std::span(values).subspan(12));
    EXPECT_EQ(dataset.type(), type);
    EXPECT_EQ(dataset.shape(), (std::vector<std::int64_t>{5, 2, 3}));
    EXPECT_EQ(dataset.read_all<double>(30), std::vector<double>(values.begin(), values.end()));
    std::vector<float> rows(12);
    dataset.read_rows<float>(3, rows);
    EXPECT_EQ(rows, std::vector<float>(values.begin() + 18, values.end()));
    if (type.kind == hdf5::ElementType::Kind::integer) {
      EXPECT_EQ(dataset.read_all<std::int64_t>(30), std::vector<std::int64_t>(values.begin(), values.end()));
    } else {
      expect_error("expected i64", [&] { dataset.read_all<std::int64_t>(30); });
    }
  }
  EXPECT_EQ(file.list("/deep/er").size(), 7u);
  EXPECT_EQ(file.list(), std::vector<std::string>{"deep"});
}

TEST(Hdf5, ReadsScalarsAndEmptyLists) {
  const TemporaryFolder folder;
  hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
  file.write<double>("scalar", {}, std::vector<double>{2.5});
  file.write<double>("empty", {0}, {});
  file.write<double>("empty_rows", {3, 0}, {});
  EXPECT_EQ(file.dataset("scalar").read_all<double>(1), std::vector<double>{2.5});
  EXPECT_TRUE(file.dataset("empty").read_all<double>(0).empty());
  EXPECT_TRUE(file.dataset("empty_rows").read_all<double>(0).empty());
  EXPECT_EQ(file.dataset("empty_rows").rows(), 3);
}

TEST(Hdf5, ChunkedDatasetsGrowAndDetectAFlippedByte) {
  const TemporaryFolder folder;
  {
    hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
    hdf5::Dataset dataset =
        file.create_dataset("x", {.shape = {0, 4}, .type = hdf5::f64, .chunk_rows = 16, .fletcher32 = true});
    for (std::int64_t begin = 0; begin < 48; begin += 8) {
      dataset.extend(begin + 8);
      dataset.write_rows<double>(begin, std::vector<double>(32, 3.25));
    }
    dataset = {};
    file.close();
  }
  std::string bytes = testing::bytes_of(folder / "a.h5");
  const double value = 3.25;
  const std::string pattern(reinterpret_cast<const char*>(&value), sizeof value);
  const std::size_t at = bytes.find(pattern + pattern);
  ASSERT_NE(at, bytes.npos);
  EXPECT_EQ(hdf5::File::open(folder / "a.h5", Access::read).dataset("x").read_all<double>(192),
            std::vector<double>(192, 3.25));
  bytes[at + 3] = 1;
  const std::string bad = folder.write("bad.h5", bytes);
  expect_error("bad.h5:/x: a chunk has fletcher32 checksum",
               [&] { hdf5::File::open(bad, Access::read).dataset("x").read_all<double>(192); });
}

TEST(Hdf5, ADatasetAllocatedEarlyHasAFileOffset) {
  const TemporaryFolder folder;
  hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
  hdf5::Dataset dataset = file.create_dataset("x", {.shape = {1000}, .type = hdf5::f32, .allocate_early = true});
  const auto offset = dataset.file_offset();
  ASSERT_TRUE(offset.has_value());
  dataset = {};
  file.close();
  EXPECT_GE(testing::bytes_of(folder / "a.h5").size(), static_cast<std::size_t>(*offset) + 4000);
  EXPECT_FALSE(hdf5::File::open(folder / "b.h5", Access::create)
                   .create_dataset("y", {.shape = {8}, .chunk_rows = 4})
                   .file_offset()
                   .has_value());
}

TEST(Hdf5, KeepsAttributesOfEveryKind) {
  const TemporaryFolder folder;
  {
    hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
    file.set_attribute("integer", std::int64_t{-5});
    file.set_attribute("number", 0.25);
    file.set_attribute("whole", 7.0);
    file.set_attribute("text", std::string("first"));
    file.set_attribute("text", std::string("ä text of its own "));
    file.set_attribute("nothing", std::string());
    file.close();
  }
  const hdf5::File file = hdf5::File::open(folder / "a.h5", Access::read);
  EXPECT_EQ(file.integer_attribute("integer"), -5);
  EXPECT_EQ(file.number_attribute("integer"), -5.0);
  EXPECT_EQ(file.number_attribute("number"), 0.25);
  EXPECT_EQ(file.integer_attribute("whole"), 7);
  EXPECT_EQ(file.string_attribute("text"), "ä text of its own ");
  EXPECT_EQ(file.string_attribute("nothing"), "");
  EXPECT_EQ(file.attribute_names().size(), 5u);
  expect_error("a.h5:/: attribute number is not an integer", [&] { file.integer_attribute("number"); });
  expect_error("is a string, expected a number", [&] { file.number_attribute("text"); });
  expect_error("is a number, expected a string", [&] { file.string_attribute("number"); });
  expect_error("a.h5:/: attribute absent is missing", [&] { file.attribute("absent"); });
}

TEST(Hdf5, ReadsDatasetsThatCanGrowOrShrank) {
  const TemporaryFolder folder;
  for (const hsize_t most : {hsize_t{900}, H5S_UNLIMITED}) {
    const std::string path = folder / "a.h5";
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access),
                creation = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t rows = 500, chunk = 7, fewer = 100;
    H5Pset_chunk(creation, 1, &chunk);
    const hid_t space = H5Screate_simple(1, &rows, &most);
    const hid_t dataset = H5Dcreate2(file, "x", H5T_STD_I32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    std::vector<std::int32_t> values(rows);
    for (std::size_t i = 0; i < rows; ++i) values[i] = static_cast<std::int32_t>(i);
    H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dset_extent(dataset, &fewer);
    H5Dclose(dataset);
    H5Sclose(space);
    for (const hid_t id : {creation, access}) H5Pclose(id);
    H5Fclose(file);
    values.resize(fewer);
    EXPECT_EQ(hdf5::File::open(path, Access::read).dataset("x").read_all<std::int32_t>(1000), values);
  }
}

TEST(Hdf5, ReadsWhatOtherProgramsWrite) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
  const auto attribute = [&](const char* name, hid_t stored, hid_t memory, const void* value) {
    const hid_t made = H5Acreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(made, memory, value);
    H5Aclose(made);
  };
  const signed char small = -3;
  attribute("i8_big_endian", H5T_STD_I16BE, H5T_NATIVE_SCHAR, &small);
  const float half = 0.5f;
  attribute("f32_big_endian", H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, &half);
  for (const auto& [name, pad] : {std::pair{"spaces", H5T_STR_SPACEPAD}, std::pair{"nuls", H5T_STR_NULLPAD}}) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 6);
    H5Tset_strpad(type, pad);
    attribute(name, type, type, pad == H5T_STR_SPACEPAD ? "silu  " : "silu\0\0");
    H5Tclose(type);
  }
  const hid_t truth = H5Tenum_create(H5T_NATIVE_SCHAR);
  const signed char no = 0, yes = 1;
  H5Tenum_insert(truth, "FALSE", &no);
  H5Tenum_insert(truth, "TRUE", &yes);
  attribute("truth", truth, truth, &yes);
  H5Tclose(truth);
  H5Sclose(space);
  H5Fclose(file);

  const hdf5::File read = hdf5::File::open(path, Access::read);
  EXPECT_EQ(read.integer_attribute("i8_big_endian"), -3);
  EXPECT_EQ(read.number_attribute("f32_big_endian"), 0.5);
  EXPECT_EQ(read.string_attribute("spaces"), "silu");
  EXPECT_EQ(read.string_attribute("nuls"), "silu");
  EXPECT_EQ(read.integer_attribute("truth"), 1);
}

TEST(Hdf5, ReadsNoOtherFile) {
  const TemporaryFolder folder;
  { hdf5::File::open(folder / "other.h5", Access::create).write<double>("x", {1}, std::vector<double>{1}); }
  folder.write("secret", "not for everybody");
  const std::string path = folder / "a.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_external((folder / "other.h5").c_str(), "/x", file, "external", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_external((folder / "other.h5").c_str(), "/", file, "root", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("/nowhere", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t length = 8;
  const hid_t space = H5Screate_simple(1, &length, nullptr), creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(creation, (folder / "secret").c_str(), 0, 8);
  H5Dclose(H5Dcreate2(file, "elsewhere", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
  const hid_t virtual_creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_virtual(virtual_creation, space, (folder / "other.h5").c_str(), "/x", space);
  H5Dclose(H5Dcreate2(file, "virtual", H5T_IEEE_F64LE, space, H5P_DEFAULT, virtual_creation, H5P_DEFAULT));
  H5Pclose(virtual_creation);
  H5Pclose(creation);
  H5Sclose(space);
  H5Fclose(file);

  const hdf5::File read = hdf5::File::open(path, Access::read);
  expect_error("a.h5:/external: is a link to elsewhere", [&] { read.dataset("external"); });
  expect_error("a.h5:/root: is a link to elsewhere", [&] { read.dataset("root/x"); });
  expect_error("a.h5:/soft: is a link to elsewhere", [&] { read.exists("soft"); });
  expect_error("a.h5:/elsewhere: keeps its data in another file", [&] { read.dataset("elsewhere"); });
  expect_error("a.h5:/virtual: is a virtual dataset", [&] { read.dataset("virtual"); });
}

TEST(Hdf5, NamesAMissingObjectOrOneOfAnotherKind) {
  const TemporaryFolder folder;
  hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
  file.write<double>("group/x", {2, 3}, std::vector<double>(6));
  EXPECT_TRUE(file.exists("/group/x"));
  EXPECT_FALSE(file.exists("group/y"));
  EXPECT_FALSE(file.exists("nowhere/x"));
  EXPECT_FALSE(file.exists("group/x/y"));
  expect_error("a.h5:/nowhere/x: is missing", [&] { file.dataset("nowhere/x"); });
  expect_error("a.h5:/group: is not a dataset", [&] { file.dataset("group"); });
  expect_error("a.h5:/group/x: is not a group", [&] { file.group("group/x"); });
  expect_error("a.h5:/group/x: has 6 values, expected at most 5", [&] { file.dataset("group/x").read_all<double>(5); });
  std::vector<double> rows(6);
  expect_error("a.h5:/group/x: has 2 rows, expected 2 from row 1 on",
               [&] { file.dataset("group/x").read_rows<double>(1, rows); });
  expect_error("a.h5:/group/x: has 2 rows", [&] { file.dataset("group/x").read_rows<double>(INT64_MAX, rows); });
  expect_error("holds f64 of rank 2, expected a list of strings", [&] { file.dataset("group/x").read_strings(0, 1); });
}

TEST(Hdf5, DamageHasTheExitCodeOfTheReader) {
  const TemporaryFolder folder;
  { hdf5::File::open(folder / "a.h5", Access::create).write<double>("x", {1000}, std::vector<double>(1000, 1)); }
  const std::string bytes = testing::bytes_of(folder / "a.h5"),
                    cut = folder.write("cut.h5", std::string_view(bytes).substr(0, bytes.size() - 100));
  for (const ExitCode code : {ExitCode::usage, ExitCode::corrupt}) {
    try {
      hdf5::File::open(cut, Access::read, code);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(std::string(error.what()).find("cut.h5: cannot open: truncated file"), std::string::npos)
          << error.what();
    }
  }
}

TEST(Hdf5, LibHdf5PrintsNothing) {
  const TemporaryFolder folder;
  ::testing::internal::CaptureStderr();
  error_of([&] { hdf5::File::open(folder / "absent.h5", Access::read); });
  error_of([&] { hdf5::File::open(folder.write("no.h5", "no"), Access::read); });
  error_of([&] { hdf5::File::open((folder / "no") + "/folder/a.h5", Access::create); });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5, SeveralThreadsReadOneFile) {
  if (!hdf5::thread_safe()) GTEST_SKIP() << "this HDF5 library is not thread-safe";
  const TemporaryFolder folder;
  {
    hdf5::File file = hdf5::File::open(folder / "a.h5", Access::create);
    hdf5::Dataset dataset =
        file.create_dataset("x", {.shape = {4000}, .type = hdf5::i64, .chunk_rows = 100, .deflate = 1});
    std::vector<std::int64_t> values(4000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int64_t>(i);
    dataset.write_rows<std::int64_t>(0, values);
  }
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t)
      threads.emplace_back([&, t] {
        const hdf5::Dataset dataset = hdf5::File::open(folder / "a.h5", Access::read).dataset("x");
        std::vector<std::int64_t> values(50);
        for (std::int64_t begin = static_cast<std::int64_t>(t) * 10; begin + 50 <= 4000; begin += 50) {
          dataset.read_rows<std::int64_t>(begin, values);
          wrong[t] += values.front() != begin || values.back() != begin + 49;
          wrong[t] += error_of([&] { dataset.attribute("absent"); }).find("absent") == std::string::npos;
        }
      });
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(AtomicFile, AppearsCompleteOrNotAtAll) {
  const TemporaryFolder folder;
  const std::string path = folder / "target";
  const auto write = [](const AtomicFile& file, std::string_view text) { std::ofstream(file.temporary()) << text; };
  {
    const AtomicFile abandoned(path);
    write(abandoned, "half");
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(folder.count(), 0u);
  {
    AtomicFile one(path), two(path);  // two writers do not disturb each other
    write(one, "one");
    write(two, "two");
    one.commit();
    EXPECT_EQ(testing::bytes_of(path), "one");
    two.commit();
  }
  EXPECT_EQ(testing::bytes_of(path), "two");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(AtomicFile, RefusesATargetThatIsNotARegularFile) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "folder");
  expect_error("exists and is not a regular file", [&] { AtomicFile(folder / "folder"); });
  expect_error("exists and is not a regular file", [] { AtomicFile("/dev/null"); });
  expect_error("cannot create: No such file or directory", [&] { AtomicFile(folder / "absent/file"); });
}

}  // namespace
}  // namespace causeway
