/// `causeway export`: every kind of file that it knows, and those that it refuses.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "src/export/export_table.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

std::string exported(const std::string& source, bool tokens = false) {
  std::string text;
  TableFile table([&](std::string_view part) { text += part; }, TableFormat::tsv);
  export_kind_of(source).write({.source = source, .tokens = tokens}, table);
  table.finish();
  return text;
}

/// The error that exporting `source` ends with.
Error refusal(const std::string& source) {
  try {
    exported(source);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << source << " was exported";
  return {ExitCode::ok, ""};
}

/// Scores of three documents, of 2, 0 and 3 tokens, with datasets that a later version may add.
void write_scores(const std::string& path) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  auto file = hdf5::File::open(path, hdf5::Access::create);
  file.set_attribute("format", std::string("causeway-scores"));
  file.write<std::int64_t>("cu_seqlens", {4}, std::vector<std::int64_t>{0, 2, 2, 5});
  file.create_dataset("names", {.shape = {3}, .type = hdf5::string})
      .write_strings(0, std::vector<std::string>{"a\tb", "", "c"});
  file.write<double>("document/log_likelihood", {3}, std::vector<double>{-1.5, 0, -0.1});
  file.write<std::int64_t>("document/tokens", {3}, std::vector<std::int64_t>{2, 0, 3});
  file.write<double>("document/reverse", {3}, std::vector<double>{1, 2, 3});
  file.write<double>("document/of_another_length", {2}, std::vector<double>{1, 2});
  file.create_group("document/group");
  file.write<float>("token/log_likelihood", {5}, std::vector<float>{nan, -1.5F, nan, -0.05F, -0.1F});
  file.write<float>("token/letters", {5, 2}, std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, nan});
  file.write<std::int32_t>("token/letters_ids", {2}, std::vector<std::int32_t>{'A', 9});
  file.write<float>("embeddings/layer_2", {3, 100}, std::vector<float>(300));
  file.close();
}

TEST(Export, ScoresAreARowForEachDocumentOrToken) {
  const TemporaryFolder folder;
  const std::string path = folder / "scores.h5";
  write_scores(path);
  EXPECT_EQ(exported(path),
            "name\ttokens\tlog_likelihood\tper_token\tperplexity\treverse\n"
            "a\\tb\t2\t-1.5\t-1.5\t4.4816890703380645\t1\n"
            "\t0\t0\t\t\t2\n"
            "c\t3\t-0.1\t-0.05\t1.0512710963760241\t3\n");
  EXPECT_EQ(exported(path, true),
            "document\tname\tposition\tlog_likelihood\tletters_A\tletters_9\n"
            "0\ta\\tb\t0\t\t0\t1\n"
            "0\ta\\tb\t1\t-1.5\t2\t3\n"
            "2\tc\t0\t\t4\t5\n"
            "2\tc\t1\t-0.05\t6\t7\n"
            "2\tc\t2\t-0.1\t8\t\n");
}

TEST(Export, DamagedScoresAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "scores.h5";
  const auto damaged = [&](const std::string& removed, const auto& write) {
    write_scores(path);
    auto file = hdf5::File::open(path, hdf5::Access::update);
    file.remove(removed);
    write(file);
    file.close();
    return refusal(path);
  };
  const Error order = damaged("cu_seqlens", [](hdf5::File& file) {
    file.write<std::int64_t>("cu_seqlens", {4}, std::vector<std::int64_t>{0, 3, 2, 5});
  });
  EXPECT_NE(std::string(order.what()).find("cu_seqlens"), std::string::npos) << order.what();
  const Error names = damaged("names", [](hdf5::File& file) {
    file.create_dataset("names", {.shape = {1}, .type = hdf5::string}).write_strings(0, std::vector<std::string>{"x"});
  });
  EXPECT_EQ(names.code(), ExitCode::corrupt);
  const Error rows = damaged("document/log_likelihood", [](hdf5::File& file) {
    file.write<double>("document/log_likelihood", {2}, std::vector<double>{1, 2});
  });
  EXPECT_EQ(rows.code(), ExitCode::corrupt);
  EXPECT_NE(std::string(rows.what()).find("document/log_likelihood: has 2 rows"), std::string::npos) << rows.what();
  damaged("document/log_likelihood", [](hdf5::File&) {});
}

TEST(Export, MetricsHaveARowForEachStepAndAColumnForEachMember) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "run");
  folder.write("run/metrics.jsonl",
               "{\"step\":0,\"eval_loss\":5.5}\n"
               "{\"step\":1,\"loss\":0.1,\"tokens\":9007199254740993}\n"
               "{\"step\":2,\"loss\":null,\"note\":\"a\\tb\",\"list\":[1,{\"x\":2}]}\n"
               "{\"step\":3,\"loss\":1e-300,\"eval_loss\":4,\"inner\":{\"a\":1,\"b\":true}}\n");
  const std::string table =
      "step\tloss\tnote\tlist\ttokens\teval_loss\tinner.a\tinner.b\n"
      "0\t\t\t\t\t5.5\t\t\n"
      "1\t0.1\t\t\t9007199254740993\t\t\t\n"
      "2\t\ta\\tb\t[1,{\"x\":2}]\t\t\t\t\n"
      "3\t1e-300\t\t\t\t4\t1\ttrue\n";
  EXPECT_EQ(exported(folder / "run"), table);
  EXPECT_EQ(exported(folder / "run/metrics.jsonl"), table);
}

TEST(Export, ALaterLineOfAStepReplacesThatStepAndLaterOnes) {
  const TemporaryFolder folder;
  const std::string path = folder.write("metrics.jsonl",
                                        "{\"step\":1,\"loss\":1}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":3}\n"
                                        "{\"step\":2,\"loss\":20}\n{\"step\":3,\"loss\":30}\n{\"step\":3,\"loss\":31}\n"
                                        "{\"step\":4,\"lo");
  EXPECT_EQ(exported(path), "step\tloss\n1\t1\n2\t20\n3\t31\n");
}

TEST(Export, LinesOfMetricsThatAreNotStepsAreLeftOut) {
  const TemporaryFolder folder;
  const std::string deep(60'000, '['), nested = "{\"step\":4,\"x\":" + deep + std::string(60'000, ']') + "}\n";
  const std::string path = folder.write(
      "metrics.jsonl", "{\"step\":1,\"loss\":1}\nnonsense\n[1]\n{\"loss\":1}\n{\"step\":-1}\n" +
                           std::string(1 << 20, 'x') + "\n" + nested + "{\"step\":5,\"x\":" + deep.substr(0, 20'000) +
                           std::string(20'000, ']') + "}\n");
  const std::string text = exported(path);
  EXPECT_EQ(text.find("step\t"), 0u);
  EXPECT_NE(text.find("\n1\t"), std::string::npos);
  EXPECT_NE(text.find("\n5"), std::string::npos) << "what is nested too deep is left out, not the line";
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text.substr(0, 200);
  std::string many = "{\"step\":1";
  for (int i = 0; i < 1000; ++i) many += ",\"m" + std::to_string(i) + "\":1";
  EXPECT_EQ(refusal(folder.write("many.jsonl", many + "}\n")).code(), ExitCode::usage);
  EXPECT_EQ(refusal(folder.write("unfinished.jsonl", "{\"step\":1}")).code(), ExitCode::usage);
}

TEST(Export, ReportsRepeatWhatAllResultsShare) {
  const TemporaryFolder folder;
  EXPECT_EQ(exported(folder.write("r.json", R"({
    "topic": "operators", "ceilings": {"gigaflops": 2.5},
    "results": [{"name": "scan", "ms": 1.5}, {"name": "gemm", "failure": "no memory"}]})")),
            "topic\tceilings.gigaflops\tname\tfailure\tms\n"
            "operators\t2.5\tscan\t\t1.5\n"
            "operators\t2.5\tgemm\tno memory\t\n");
  EXPECT_EQ(exported(folder.write("c.json", R"({"topic":"checkpoint","ranks":3})")), "topic\tranks\ncheckpoint\t3\n");
  for (const char* wrong :
       {R"({"topic":"x","results":[]})", R"({"topic":"x","results":3})", R"({"topic":"x","results":[1]})"})
    EXPECT_EQ(refusal(folder.write("w.json", wrong)).code(), ExitCode::usage) << wrong;
}

TEST(Export, DatasetsHaveARowForEachDocument) {
  const TemporaryFolder folder;
  const std::string path = folder / "data.h5";
  {
    DatasetWriter writer(path, 512, "test", {.loss_mask = true, .loss_weights = true});
    writer.begin_document("one");
    writer.append(std::vector<std::int32_t>{1, 2, 3}, std::vector<std::uint8_t>{1, 0, 1},
                  std::vector<float>{1, 1, 0.25F});
    writer.begin_document("none");
    writer.begin_document("long");
    writer.append(std::vector<std::int32_t>(100'000, 7), std::vector<std::uint8_t>(100'000, 1),
                  std::vector<float>(100'000, 0.5F));
    writer.finish();
  }
  EXPECT_EQ(exported(path), "name\ttokens\tweight\none\t3\t1.25\nnone\t0\t0\nlong\t100000\t50000\n");
}

TEST(Export, OtherFilesAreRefusedWithAListOfWhatCanBeExported) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  auto other = hdf5::File::open(folder / "other.h5", hdf5::Access::create);
  other.close();
  for (const std::string& path :
       {folder / "empty", folder / "other.h5", folder.write("text", "hello\n"), folder.write("nothing", ""),
        folder.write("object", "{\"a\":1}"), folder.write("cut", "{\"topic\":"), std::string("/dev/null")}) {
    const Error error = refusal(path);
    EXPECT_EQ(error.code(), ExitCode::usage) << path;
    for (const ExportKind& kind : export_kinds())
      EXPECT_NE(std::string(error.what()).find(kind.name), std::string::npos) << error.what();
  }
  EXPECT_EQ(refusal(folder / "missing").code(), ExitCode::usage);
}

TEST(Export, TheCommandWritesATableOnceAndCompletely) {
  const TemporaryFolder folder;
  write_scores(folder / "scores.h5");
  EXPECT_EQ(shell(folder, "@causeway export scores.h5 --out x.csv").exit, 0);
  EXPECT_EQ(bytes_of(folder / "x.csv").find("name,tokens,log_likelihood"), 0u);
  EXPECT_EQ(shell(folder, "@causeway export scores.h5 --out x.csv").exit, 2);
  EXPECT_EQ(shell(folder, "@causeway export scores.h5 --out x.csv --tokens --force").exit, 0);
  EXPECT_EQ(bytes_of(folder / "x.csv").find("document,name,position"), 0u);
  const std::string before = bytes_of(folder / "scores.h5");
  EXPECT_EQ(shell(folder, "sh -c 'ln scores.h5 y.tsv; @causeway export scores.h5 --out y.tsv --force'").exit, 2);
  EXPECT_EQ(bytes_of(folder / "scores.h5"), before);
  EXPECT_EQ(shell(folder, "@causeway export scores.h5 --out x.txt").exit, 2);
  EXPECT_EQ(shell(folder, "@causeway export x.csv").exit, 2);
  EXPECT_EQ(shell(folder, "@causeway export scores.h5").out, exported(folder / "scores.h5"));
  EXPECT_EQ(shell(folder, with_calls("fsync:z.tsv:28", "@causeway export scores.h5 --out z.tsv")).exit, 74);
  EXPECT_FALSE(std::filesystem::exists(folder / "z.tsv"));
}

TEST(Export, ScoresOfTheProgramGiveTheTableThatItsOptionTsvGives) {
  const TemporaryFolder folder;
  folder.write("a.fa", ">one\nACGTACGT\n>two words\nA\n>three\n\n>four\nGATTACA\n");
  for (const char* command : {"import a.fa --out data.h5",
                              "train --data data.h5 --run run --layers attention --width 8 --heads 2 --pack-tokens 16 "
                              "--steps 1",
                              "score --checkpoint run --data data.h5 --out scores.h5 --tsv scores.tsv "
                              "--reverse-complement --probabilities ACGT --embeddings 1:tokens"}) {
    const Outcome outcome = shell(folder, std::string("@causeway ") + command);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  EXPECT_EQ(exported(folder / "scores.h5"), bytes_of(folder / "scores.tsv"));
  const std::string tokens = exported(folder / "scores.h5", true);
  EXPECT_EQ(tokens.find("document\tname\tposition\tlog_likelihood\tlog_likelihood_reverse\tprobability_A\t"
                        "probability_C\tprobability_G\tprobability_T\n0\tone\t0\t\t-"),
            0u)
      << tokens;
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), '\n'), 1 + 8 + 1 + 7);
}

TEST(Export, PackingReportsOfTheProgramAreExported) {
  const TemporaryFolder folder;
  folder.write("a.lines", "one\ntwo\nthree\n");
  ASSERT_EQ(shell(folder, "@causeway import a.lines --out data.h5").exit, 0);
  const std::string pack = "@causeway pack --data data.h5 --pack-tokens 8 --report --json pack.json";
  ASSERT_EQ(shell(folder, pack).exit, 0);
  EXPECT_EQ(shell(folder, pack).exit, 2) << "an existing file is refused";
  EXPECT_EQ(shell(folder, pack + " --force").exit, 0);
  const std::string table = exported(folder / "pack.json");
  EXPECT_EQ(table.find("topic\tdata\tpack_tokens\twindow\tpolicy\tpacks\ttokens\tpadding\t"), 0u) << table;
  EXPECT_NE(table.find("packing\t[\"data.h5\"]\t8\t256\tin_order\t2\t11\t0.3125\t1.5\t2\t5\t0\n"), std::string::npos)
      << table;
  EXPECT_EQ(shell(folder, "@causeway pack --data data.h5 --json data.h5 --force").exit, 2);
}

}  // namespace
}  // namespace causeway::test
