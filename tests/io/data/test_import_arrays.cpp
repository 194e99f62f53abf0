// Token ids in binary files: indexed datasets of Megatron-LM, arrays of numpy.
#include <gtest/gtest.h>

#include <cstring>

#include "io/data/import.hpp"
#include "kernels/core/error.hpp"
#include "tests/io/data/imported.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::Documents;
using testing::documents_in;
using testing::TemporaryFolder;

template <class T>
std::string bytes_of(std::initializer_list<std::int64_t> values, bool big_endian = false) {
  std::string bytes;
  for (const std::int64_t value : values) {
    const T narrow = static_cast<T>(value);
    std::string one(sizeof(T), '\0');
    std::memcpy(one.data(), &narrow, sizeof(T));
    bytes += big_endian ? std::string(one.rbegin(), one.rend()) : one;
  }
  return bytes;
}

/// An index with its numbers as they are stored.
struct Index {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  std::int64_t version = 1, type = 1;
  std::int64_t sequences = 4, boundaries = 4;
  std::string lengths = bytes_of<std::int32_t>({2, 0, 3, 1});
  std::string offsets = bytes_of<std::int64_t>({0, 2, 2, 5});
  std::string documents = bytes_of<std::int64_t>({0, 2, 2, 4});
  std::string modes;

  std::string bytes() const {
    return magic + bytes_of<std::uint64_t>({version}) + bytes_of<std::uint8_t>({type}) +
           bytes_of<std::uint64_t>({sequences, boundaries}) + lengths + offsets + documents + modes;
  }
};

class ArrayImport : public ::testing::Test {
 protected:
  Documents imported(const std::string& name, ImportOptions options = {}) {
    options.files = {folder_ / name};
    options.out = folder_ / "data.h5";
    options.force = true;
    report_ = import_files(options);
    return documents_in(options.out);
  }
  std::string refusal(const std::string& name, const ImportOptions& options = {}) {
    try {
      imported(name, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "no error";
  }
  std::string megatron_refusal(const Index& index, const std::string& bin = "ABCDEF") {
    folder_.write("d.idx", index.bytes());
    folder_.write("d.bin", bin);
    return refusal("d.idx");
  }
  void write_npy(const std::string& name, const std::string& descr, std::size_t count, const std::string& data,
                 int version = 1, const std::string& shape = "") {
    std::string header =
        "{'descr': " + (descr.starts_with('[') ? descr : "'" + descr + "'") +
        ", 'fortran_order': False, 'shape': " + (shape.empty() ? "(" + std::to_string(count) + ",)" : shape) + ", }";
    header.resize(117, ' ');
    header += '\n';
    const auto size = static_cast<std::int64_t>(header.size());
    folder_.write(name, "\x93NUMPY" + bytes_of<std::uint8_t>({version, 0}) +
                            (version == 1 ? bytes_of<std::uint16_t>({size}) : bytes_of<std::uint32_t>({size})) +
                            header + data);
  }

  TemporaryFolder folder_;
  ImportReport report_;
};

TEST_F(ArrayImport, MegatronGivesItsDocumentsUnderEveryName) {
  folder_.write("d.idx", Index().bytes());
  folder_.write("d.bin", "ABCDEF");
  const Documents expected = {"d:0=AB", "d:1=", "d:2=CDEF"};
  EXPECT_EQ(imported("d.idx"), expected);
  EXPECT_EQ(imported("d.bin"), expected);
  EXPECT_EQ(imported("d"), expected);
  EXPECT_EQ(imported("d", {.format = "megatron"}), expected);
  EXPECT_EQ(report_.empty_documents, 1);
  folder_.write("d.idx", Index{.modes = std::string("\0\1\0\1", 4)}.bytes());
  EXPECT_EQ(imported("d.idx"), expected);
}

TEST_F(ArrayImport, MegatronsOffsetsAreTheTruth) {
  folder_.write("d.bin", "..ABCDEF.");
  folder_.write("d.idx", Index{.offsets = bytes_of<std::int64_t>({6, 9, 2, 3})}.bytes());
  EXPECT_EQ(imported("d"), (Documents{"d:0=EF", "d:1=", "d:2=ABCB"}));
}

TEST_F(ArrayImport, MegatronsTokensHaveAnyIntegerType) {
  const auto check = [&](std::int64_t code, const std::string& bin, std::int64_t bytes) {
    folder_.write("d.bin", bin);
    folder_.write("d.idx",
                  Index{.type = code, .offsets = bytes_of<std::int64_t>({0, 0, 2 * bytes, 5 * bytes})}.bytes());
    EXPECT_EQ(imported("d"), (Documents{"d:0=AB", "d:1=", "d:2=CDEF"})) << code;
  };
  check(1, "ABCDEF", 1);
  check(2, "ABCDEF", 1);
  check(3, bytes_of<std::int16_t>({65, 66, 67, 68, 69, 70}), 2);
  check(4, bytes_of<std::int32_t>({65, 66, 67, 68, 69, 70}), 4);
  check(5, bytes_of<std::int64_t>({65, 66, 67, 68, 69, 70}), 8);
  check(8, bytes_of<std::uint16_t>({65, 66, 67, 68, 69, 70}), 2);
  EXPECT_NE(megatron_refusal({.type = 6}).find("its tokens are float64 (type code 6), expected integers"),
            std::string::npos);
  EXPECT_NE(megatron_refusal({.type = 7}).find("its tokens are float32"), std::string::npos);
  EXPECT_NE(megatron_refusal({.type = 0}).find("has type code 0, expected 1 to 8"), std::string::npos);
  EXPECT_NE(megatron_refusal({.type = 9}).find("has type code 9"), std::string::npos);
}

TEST_F(ArrayImport, WhatIsWrongInAMegatronDatasetIsNamed) {
  const auto says = [](const std::string& message, const std::string& expected) {
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  };
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  says(megatron_refusal({.magic = std::string("TNTIDX\0\0\0", 9)}), "is an index of fairseq");
  says(megatron_refusal({.magic = "something"}), "d.idx: does not start as an index of Megatron-LM");
  says(megatron_refusal({.version = 2}), "has version 2, expected 1");
  says(megatron_refusal({.sequences = huge}), "names 4611686018427387904 sequences");
  says(megatron_refusal({.sequences = -1}), "names 9223372036854775807 sequences");
  says(megatron_refusal({.boundaries = huge}), "4611686018427387904 document boundaries, more than its 114 bytes");
  says(megatron_refusal({.sequences = 3}), "d.idx: has 114 bytes, expected 102 for 3 sequences and 4 document");
  says(megatron_refusal({.modes = "12345"}), "has 119 bytes, expected 114");
  says(megatron_refusal({.lengths = bytes_of<std::int32_t>({2, 0, -3, 1})}), "sequence 2 has -3 tokens");
  says(megatron_refusal({.lengths = bytes_of<std::int32_t>({2, 0, 5, 1})}), "sequence 2 is 5 tokens of 1 bytes from");
  says(megatron_refusal({.offsets = bytes_of<std::int64_t>({0, 2, -1, 5})}), "from byte -1 on, expected them within");
  says(megatron_refusal({.offsets = bytes_of<std::int64_t>({0, 2, huge, 5})}), "within the 6 bytes of");
  says(megatron_refusal({.documents = bytes_of<std::int64_t>({1, 2, 2, 4})}), "document index: starts with 1");
  says(megatron_refusal({.documents = bytes_of<std::int64_t>({0, 3, 2, 4})}),
       "boundary 2 is 2, expected at least the 3");
  says(megatron_refusal({.documents = bytes_of<std::int64_t>({0, 2, 2, 3})}), "ends with 3, expected 4");
  says(megatron_refusal({.documents = bytes_of<std::int64_t>({0, 2, 5, 4})}),
       "boundary 3 is 4, expected at least the 5");
  says(megatron_refusal({}, "ABCDE"), "within the 5 bytes of");
  says(megatron_refusal({}, ""), "within the 0 bytes of");
  std::filesystem::remove(folder_ / "d.bin");
  says(refusal("d.idx"), "d.bin: no such file; a dataset of Megatron-LM is NAME.idx and NAME.bin");
  EXPECT_EQ(folder_.count(), 1u);
}

TEST_F(ArrayImport, EveryTruncationOfMegatronsFilesIsAnError) {
  for (const Index& index : {Index(), Index{.modes = "\1\1\1\1"}}) {
    const std::string idx = index.bytes(), bin = "ABCDEF";
    folder_.write("d.bin", bin);
    for (std::size_t size = 0; size < idx.size(); ++size) {
      folder_.write("d.idx", idx.substr(0, size));
      if (size == Index().bytes().size()) continue;  // the index without its modes
      EXPECT_NE(refusal("d"), "no error") << size;
    }
    folder_.write("d.idx", idx);
    for (std::size_t size = 0; size < bin.size(); ++size) {
      folder_.write("d.bin", bin.substr(0, size));
      EXPECT_NE(refusal("d"), "no error") << size;
    }
  }
}

TEST_F(ArrayImport, AnIdThatIsNoneIsNamedWithTheVocabularyThatFits) {
  folder_.write("d.idx", Index{.type = 3, .offsets = bytes_of<std::int64_t>({0, 0, 4, 10})}.bytes());
  folder_.write("d.bin", bytes_of<std::int16_t>({1, 2, 3, 600, 700, 5}));
  EXPECT_NE(refusal("d").find("d.bin: document 2, position 1: found token 600, expected 0 to 511; --vocabulary 701 is "
                              "the smallest that fits this file"),
            std::string::npos);
  EXPECT_EQ(imported("d", {.vocabulary_size = 701}).size(), 3u);
  EXPECT_EQ(imported("d", {.skip_bad = true}), (Documents{"d:0=\1\2", "d:1="}));
  EXPECT_EQ(report_.passed_over.records, 1);
  folder_.write("d.bin", bytes_of<std::int16_t>({1, 2, 3, 4, 5, -6}));
  EXPECT_NE(refusal("d").find("document 2, position 3: found token -6, expected 0 to 511"), std::string::npos);
  write_npy("a.npy", "<u8", 2, bytes_of<std::uint64_t>({1, -1}));
  EXPECT_NE(refusal("a.npy").find("no vocabulary has more than"), std::string::npos);
}

TEST_F(ArrayImport, NumpyGivesOneDocumentOrThoseOfItsBoundaries) {
  write_npy("a.npy", "<u2", 6, bytes_of<std::uint16_t>({65, 66, 67, 68, 69, 70}));
  EXPECT_EQ(imported("a.npy"), (Documents{"a.npy=ABCDEF"}));
  write_npy("a.cu_seqlens.npy", "<i8", 4, bytes_of<std::int64_t>({0, 2, 2, 6}));
  EXPECT_EQ(imported("a.npy"), (Documents{"a.npy:0=AB", "a.npy:1=", "a.npy:2=CDEF"}));
  EXPECT_NE(refusal("a.cu_seqlens.npy").find("a.cu_seqlens.npy: belongs to"), std::string::npos);
  for (const auto& wrong :
       {std::initializer_list<std::int64_t>{0, 2, 2, 5}, {0, 2, 2, 7}, {1, 2, 2, 6}, {0, 3, 2, 6}}) {
    write_npy("a.cu_seqlens.npy", "<i8", 4, bytes_of<std::int64_t>(wrong));
    EXPECT_NE(refusal("a.npy").find("a.cu_seqlens.npy: the array:"), std::string::npos);
  }
  write_npy("a.cu_seqlens.npy", "<f8", 1, bytes_of<double>({0}));
  EXPECT_NE(refusal("a.npy").find("a.cu_seqlens.npy: holds float64, expected integers"), std::string::npos);
  write_npy("a.cu_seqlens.npy", "<i8", 0, "");
  EXPECT_NE(refusal("a.npy").find("is empty"), std::string::npos);
}

TEST_F(ArrayImport, NumpyHasAnyIntegerTypeOrderAndVersion) {
  const auto check = [&](const char* descr, const std::string& data, int version = 1, const char* shape = "") {
    write_npy("a.npy", descr, 3, data, version, shape);
    EXPECT_EQ(imported("a.npy"), (Documents{"a.npy=ABC"})) << descr << " " << version;
  };
  check("|u1", "ABC");
  check("|i1", "ABC", 2);
  check("<i2", bytes_of<std::int16_t>({65, 66, 67}), 3);
  check(">u2", bytes_of<std::uint16_t>({65, 66, 67}, true), 1, "(3L,)");
  check("<u4", bytes_of<std::uint32_t>({65, 66, 67}));
  check(">i4", bytes_of<std::int32_t>({65, 66, 67}, true), 1, "( 3 , )");
  check("<u8", bytes_of<std::uint64_t>({65, 66, 67}));
  check(">i8", bytes_of<std::int64_t>({65, 66, 67}, true));
}

TEST_F(ArrayImport, WhatIsWrongInAnArrayOfNumpyIsNamed) {
  const auto says = [&](const std::string& descr, const std::string& expected, const std::string& shape = "",
                        const std::string& data = "ABCDEFGH", int version = 1) {
    write_npy("a.npy", descr, 8, data, version, shape);
    const std::string message = refusal("a.npy");
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  };
  says("<f4", "a.npy: holds float32, expected token ids, integers", "(2,)");
  says("<f2", "holds float16", "(4,)");
  says("|b1", "a.npy: holds bool, expected token ids");
  says("|O", "holds elements of numpy's type '|O', Python objects, which are never read");
  says("<U2", "holds elements of numpy's type '<U2'", "(1,)");
  says("<c8", "numpy's type '<c8'", "(1,)");
  says("<i3", "numpy's type '<i3'");
  says("[('a', '<i4'), ('b', '<i4')]", "holds records of several fields", "(1,)");
  says("|u1", "has 2 dimensions, (2, 4), expected 1", "(2, 4)");
  says("|u1", "has 0 dimensions", "()");
  says("|u1", "has 8 bytes of data, expected 7 elements of 1 bytes", "(7,)");
  says("|u1", "has 8 bytes of data, expected 9 elements", "(9,)");
  says("<i8", "has 8 bytes of data, expected 999999999999999999 elements", "(999999999999999999,)");
  says("|u1", "damaged header of numpy, expected a size below", "(-8,)");
  says("|u1", "damaged header of numpy, expected a size below", "(99999999999999999999,)");
  says("|u1", "has numpy's format 4.0, expected 1.0 to 3.0", "", "ABCDEFGH", 4);
  folder_.write("a.npy", "PK\3\4.............");
  EXPECT_NE(refusal("a.npy").find("does not start as a file of numpy.save()"), std::string::npos);
  folder_.write("a.npy", "\x1f\x8b.............");
  EXPECT_NE(refusal("a.npy").find("is compressed with gzip, but is read at any offset"), std::string::npos);
}

TEST_F(ArrayImport, EveryTruncationOfAnArrayOfNumpyIsAnError) {
  for (const int version : {1, 3}) {
    write_npy("a.npy", "<i4", 3, bytes_of<std::int32_t>({65, 66, 67}), version);
    const std::string bytes = testing::bytes_of(folder_ / "a.npy");
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      folder_.write("a.npy", bytes.substr(0, size));
      EXPECT_NE(refusal("a.npy"), "no error") << size;
    }
    folder_.write("a.npy", bytes + "x");
    EXPECT_NE(refusal("a.npy"), "no error");
  }
}

TEST_F(ArrayImport, AMaskOfNumpyIsTheDatasetsMaskAndFractionsAreWeights) {
  write_npy("a.npy", "|u1", 4, "ABCD");
  write_npy("a.cu_seqlens.npy", "<i4", 3, bytes_of<std::int32_t>({0, 1, 4}));
  write_npy("a.loss_mask.npy", "|b1", 4, std::string("\1\0\1\1", 4));
  imported("a.npy");
  EXPECT_TRUE(Dataset(folder_ / "data.h5").has_loss_mask());
  EXPECT_FALSE(Dataset(folder_ / "data.h5").has_loss_weights());
  EXPECT_EQ(testing::label_weights_in(folder_ / "data.h5"), (std::vector<float>{1, 0, 1, 1}));

  EXPECT_EQ(imported("a.npy", {.transform = {.append_eod = 0, .strands = TransformOptions::Strands::both}}),
            (Documents{std::string("a.npy:0=A\0", 10), std::string("a.npy:0/rc=T\0", 13),
                       std::string("a.npy:1=BCD\0", 12), std::string("a.npy:1/rc=HGV\0", 15)}));
  EXPECT_EQ(testing::label_weights_in(folder_ / "data.h5"), (std::vector<float>{1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1}));

  write_npy("a.loss_mask.npy", "<f4", 4, std::string("\0\0\x80\x3f\0\0\0\x3f\0\0\0\0\0\0\x80\x3e", 16));
  imported("a.npy", {.transform = {.mask_ambiguous = true}});
  EXPECT_TRUE(Dataset(folder_ / "data.h5").has_loss_weights());
  EXPECT_EQ(testing::label_weights_in(folder_ / "data.h5"), (std::vector<float>{1, 0, 0, 0}));
  imported("a.npy");
  EXPECT_EQ(testing::label_weights_in(folder_ / "data.h5"), (std::vector<float>{1, 0.5F, 0, 0.25F}));

  write_npy("a.loss_mask.npy", "|u1", 4, std::string("\1\0\2\1", 4));
  EXPECT_NE(refusal("a.npy").find("a.loss_mask.npy: value 2 is 2, expected a weight from 0 to 1"), std::string::npos);
  write_npy("a.loss_mask.npy", "|b1", 3, std::string("\1\0\1", 3));
  EXPECT_NE(refusal("a.npy").find("a.loss_mask.npy: has 3 elements, expected 4"), std::string::npos);
}

TEST_F(ArrayImport, AFileOfAPairIsGivenOnceAndNeverAsStandardInput) {
  folder_.write("d.idx", Index().bytes());
  folder_.write("d.bin", "ABCDEF");
  const std::string out = folder_ / "data.h5";
  EXPECT_THROW(import_files({.files = {folder_ / "d.idx", folder_ / "d.bin"}, .out = out}), Error);
  EXPECT_THROW(import_files({.files = {"-"}, .out = out, .format = "megatron"}), Error);
  EXPECT_THROW(import_files({.files = {"-"}, .out = out, .format = "npy"}), Error);
  EXPECT_THROW(import_files({.files = {folder_ / "d.idx"}, .out = folder_ / "d.bin", .force = true}), Error);
  EXPECT_EQ(testing::bytes_of(folder_ / "d.bin"), "ABCDEF");
}

}  // namespace
}  // namespace causeway
