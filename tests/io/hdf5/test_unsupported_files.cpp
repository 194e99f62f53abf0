/// Well-formed files with features of HDF5 that Causeway does not read: bad input (2), never damage (65). And files
/// that say little and ask for much work.

#include <gtest/gtest.h>
#include <hdf5.h>

#include <functional>
#include <string>
#include <vector>

#include "io/checkpoint/corrupt_errors.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using hdf5::Access;
using testing::TemporaryFolder;

/// Properties with which a file is made, and what is done with it while it is open.
struct Feature {
  const char* name;
  std::string says;
  std::function<void(hid_t creation, hid_t access)> set_up;
  std::function<void(hid_t file)> fill;
};

void PrintTo(const Feature& feature, std::ostream* out) { *out << feature.name; }

/// Dataset x of eight elements. `shape_up` changes its creation properties.
void make_x(hid_t file, hid_t type, const std::function<void(hid_t)>& shape_up = {}) {
  const hsize_t length = 8;
  const hid_t space = H5Screate_simple(1, &length, nullptr), creation = H5Pcreate(H5P_DATASET_CREATE);
  if (shape_up) shape_up(creation);
  H5Dclose(H5Dcreate2(file, "x", type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
  H5Pclose(creation);
  H5Sclose(space);
}

void nothing(hid_t, hid_t) {}

hid_t compound() {
  const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
  H5Tinsert(type, "a", 0, H5T_STD_I32LE);
  H5Tinsert(type, "b", 4, H5T_STD_I32LE);
  return type;
}

const Feature features[] = {
    {"UserBlock", "has a user block of 1024 bytes", [](hid_t creation, hid_t) { H5Pset_userblock(creation, 1024); },
     [](hid_t file) { make_x(file, H5T_STD_I32LE); }},
    {"PagedFile", "h5repack -S FSM_AGGR",
     [](hid_t creation, hid_t access) {
       H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
       H5Pset_file_space_strategy(creation, H5F_FSPACE_STRATEGY_PAGE, false, 1);
     },
     [](hid_t file) { make_x(file, H5T_STD_I32LE); }},
    {"SuperblockOfVersion1", "has a superblock of version 1",
     [](hid_t creation, hid_t) { H5Pset_istore_k(creation, 64); }, [](hid_t file) { make_x(file, H5T_STD_I32LE); }},
    {"ShortAddresses", "has addresses of 4", [](hid_t creation, hid_t) { H5Pset_sizes(creation, 4, 4); },
     [](hid_t file) { make_x(file, H5T_STD_I32LE); }},
    {"Compound", "compound type", nothing, [](hid_t file) { make_x(file, compound()); }},
    {"Opaque", "opaque type", nothing, [](hid_t file) { make_x(file, H5Tcreate(H5T_OPAQUE, 16)); }},
    {"BitField", "bit field type", nothing, [](hid_t file) { make_x(file, H5T_STD_B16LE); }},
    {"Time", "time type", nothing, [](hid_t file) { make_x(file, H5T_UNIX_D32LE); }},
    {"Array", "array type", nothing,
     [](hid_t file) {
       const hsize_t two = 2;
       make_x(file, H5Tarray_create2(H5T_STD_I32LE, 1, &two));
     }},
    {"OddInteger", "has integers of 12 bits in 2 bytes", nothing,
     [](hid_t file) {
       const hid_t type = H5Tcopy(H5T_STD_U16LE);
       H5Tset_precision(type, 12);
       make_x(file, type);
     }},
    {"LongDouble", "has floating-point numbers of 16 bytes", nothing,
     [](hid_t file) { make_x(file, H5T_NATIVE_LDOUBLE); }},
    {"CommittedType", "committed", nothing,
     [](hid_t file) {
       const hid_t type = H5Tcopy(H5T_STD_I32LE);
       H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
       make_x(file, type);
       H5Tclose(type);
     }},
    {"ExternalFile", "keeps its data in another file", nothing,
     [](hid_t file) {
       make_x(file, H5T_STD_I32LE, [](hid_t creation) { H5Pset_external(creation, "other", 0, 32); });
     }},
    {"VirtualDataset", "is a virtual dataset", nothing,
     [](hid_t file) {
       make_x(file, H5T_STD_I32LE, [](hid_t creation) {
         const hsize_t length = 8;
         const hid_t space = H5Screate_simple(1, &length, nullptr);
         H5Pset_virtual(creation, space, "other.h5", "/x", space);
       });
     }},
    {"ScaleOffset", "filter 6 (scale-offset)", nothing,
     [](hid_t file) {
       make_x(file, H5T_STD_I32LE, [](hid_t creation) {
         const hsize_t chunk = 4;
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_scaleoffset(creation, H5Z_SO_INT, 0);
       });
     }},
    {"UnknownFilter", "filter 32001 (Blosc)", nothing,
     [](hid_t file) {
       make_x(file, H5T_STD_I32LE, [](hid_t creation) {
         const hsize_t chunk = 4;
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_filter(creation, 32001, H5Z_FLAG_OPTIONAL, 0, nullptr);
       });
     }},
    {"UnfilteredEdges", "without the filters of the others",
     [](hid_t, hid_t access) { H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110); },
     [](hid_t file) {
       make_x(file, H5T_STD_I32LE, [](hid_t creation) {
         const hsize_t chunk = 3;
         H5Pset_chunk(creation, 1, &chunk);
         H5Pset_deflate(creation, 1);
         H5Pset_chunk_opts(creation, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS);
       });
     }},
    {"LargeChunk", "h5repack -l CHUNK=65536", nothing,
     [](hid_t file) {
       const hsize_t length = 8, most = H5S_UNLIMITED, chunk = hsize_t{1} << 29;
       const hid_t space = H5Screate_simple(1, &length, &most), creation = H5Pcreate(H5P_DATASET_CREATE);
       H5Pset_chunk(creation, 1, &chunk);
       H5Dclose(H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
     }},
    {"ManyChunks", "has 1000000 chunks, more than a file of", nothing,
     [](hid_t file) {
       const hsize_t length = 1000000, most = H5S_UNLIMITED, chunk = 1;
       const hid_t space = H5Screate_simple(1, &length, &most), creation = H5Pcreate(H5P_DATASET_CREATE);
       H5Pset_chunk(creation, 1, &chunk);
       H5Dclose(H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
     }},
};

class Unsupported : public ::testing::TestWithParam<Feature> {};
INSTANTIATE_TEST_SUITE_P(Hdf5, Unsupported, ::testing::ValuesIn(features),
                         [](const auto& row) { return row.param.name; });

TEST_P(Unsupported, IsBadInputThatNamesTheFeature) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
  GetParam().set_up(creation, access);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
  ASSERT_GE(file, 0);
  GetParam().fill(file);
  H5Fclose(file);
  H5Pclose(access);
  H5Pclose(creation);
  // Also where other wrong forms mean damage, as in a checkpoint.
  const auto read = [&] {
    usage_errors_as_corrupt([&] { hdf5::File::open(path, Access::read, ExitCode::corrupt).dataset("x"); });
  };
  try {
    read();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
    EXPECT_NE(std::string(error.what()).find(GetParam().says), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("a.h5"), std::string::npos) << error.what();
  }
}

TEST(UnsupportedFiles, AFileThatIsOpenForWritingNamesH5clear) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  make_x(file, H5T_STD_I32LE);
  H5Fstart_swmr_write(file);
  H5Fflush(file, H5F_SCOPE_GLOBAL);
  const std::string copy = folder.write("crashed.h5", testing::bytes_of(path));  // as its writer left it when killed
  H5Fclose(file);
  H5Pclose(access);
  try {
    hdf5::File::open(copy, Access::read);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
    EXPECT_NE(std::string(error.what()).find("h5clear -s"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(hdf5::File::open(path, Access::read).exists("x"));
}

TEST(UnsupportedFiles, ADamagedHeaderIsNotAFeature) {
  const TemporaryFolder folder;
  { hdf5::File::open(folder / "a.h5", Access::create).write<double>("x", {3}, std::vector<double>(3)); }
  const std::string good = testing::bytes_of(folder / "a.h5");
  // The superblock's version 3 has a checksum: its base address, extension and flags are only believed with it.
  for (const std::size_t at : {11u, 12u, 20u, 36u}) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    try {
      hdf5::File::open(folder.write("bad.h5", bytes), Access::read);
      ADD_FAILURE() << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::corrupt) << at << ": " << error.what();
    }
  }
  // So does an object's header: a type that became compound is damage.
  std::string bytes = good;
  const std::size_t header = bytes.find("OHDR", bytes.find("OHDR") + 1);
  for (std::size_t at = header + 6; at < header + 60; ++at) {
    bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 6);
    try {
      hdf5::File::open(folder.write("bad.h5", bytes), Access::read).dataset("x").read_all<double>(3);
      ADD_FAILURE() << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::corrupt) << at << ": " << error.what();
    }
  }
}

TEST(UnsupportedFiles, AFileWhoseUserBlockWasRemovedIsRead) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_userblock(creation, 512);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, H5P_DEFAULT);
  make_x(file, H5T_STD_I32BE);
  H5Fclose(file);
  H5Pclose(creation);
  const std::string without = folder.write("b.h5", testing::bytes_of(path).substr(512));  // as h5unjam does
  EXPECT_EQ(hdf5::File::open(without, Access::read).dataset("x").read_all<std::int32_t>(8),
            std::vector<std::int32_t>(8, 0));
}

/// Half of the chunks are missing. libHDF5 1.10 would visit all chunks for each of them.
TEST(UnsupportedFiles, ManyMissingChunksAreFoundQuickly) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.h5";
  constexpr hsize_t chunks = 60000;
  {
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hsize_t length = 2 * chunks, most = H5S_UNLIMITED, chunk = 2, one = 1;
    const hid_t space = H5Screate_simple(1, &length, &most), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, &chunk);
    const hid_t set = H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    const hid_t memory = H5Screate_simple(1, &one, nullptr);
    for (hsize_t at = 0; at < length; at += 4) {
      const unsigned char value = 7;
      H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, nullptr, &one, nullptr);
      H5Dwrite(set, H5T_NATIVE_UCHAR, memory, space, H5P_DEFAULT, &value);
    }
    H5Dclose(set);
    H5Pclose(creation);
    H5Sclose(memory);
    H5Sclose(space);
    H5Fclose(file);
  }
  const auto values = hdf5::File::open(path, Access::read).dataset("x").read_all<std::uint8_t>(2 * chunks);
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], i % 4 == 0 ? 7 : 0) << i;
}

}  // namespace
}  // namespace causeway
