// What import changes in documents: upper case, reverse complement, end of document, loss weights.
#include "io/data/document_transform.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "io/data/import.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/io/data/imported.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::Documents;
using testing::documents_in;
using testing::label_weights_in;
using testing::TemporaryFolder;
using Strands = TransformOptions::Strands;
using Weights = std::vector<float>;

class Transform : public ::testing::Test {
 protected:
  Documents imported(const std::string& name, const std::string& text, const TransformOptions& options) {
    report_ = import_files({.files = {folder_.write(name, text)}, .out = out_, .force = true, .transform = options});
    return documents_in(out_);
  }
  std::string refusal(const std::string& name, const std::string& text, const TransformOptions& options) {
    try {
      imported(name, text, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  std::string out_ = folder_ / "data.h5";
  ImportReport report_;
};

TEST_F(Transform, ReverseComplementKnowsAllLettersAndKeepsTheirCase) {
  const std::string text = ">a x\nACGTUN\nRYSWKMBDHV\nacgtunryswkmbdhv-*.\n>b\n>c\nAC\n";
  const std::string reversed = ".*-bdhvkmwsrynaacgtBDHVKMWSRYNAACGT";
  EXPECT_EQ(imported("a.fa", text, {.strands = Strands::both}),
            (Documents{"a=ACGTUNRYSWKMBDHVacgtunryswkmbdhv-*.", "a/rc=" + reversed, "b=", "b/rc=", "c=AC", "c/rc=GT"}));
  EXPECT_EQ(report_.empty_documents, 2);
  EXPECT_EQ(imported("a.fa", text, {.strands = Strands::complement}), (Documents{"a=" + reversed, "b=", "c=GT"}));
}

TEST_F(Transform, AppliesToEveryFormat) {
  const TransformOptions options{.uppercase = true, .append_eod = 33, .strands = Strands::both};
  const std::pair<const char*, const char*> files[] = {
      {"a.fa", ">n\nacG\n"},
      {"a.fq", "@n\nacG\n+\nIII\n"},
      {"a.jsonl", R"({"text": "acG", "id": "n"})"},
      {"a.lines", "acG\n"},
      {"a.json", R"([{"text": "acG", "id": "n"}])"},
      {"a.tokens", "97 99 71\n"},
      {"a.txt", "acG"},
  };
  for (const auto& [name, text] : files) {
    const Documents found = imported(name, text, options);
    ASSERT_EQ(found.size(), 2u);
    EXPECT_TRUE(found[0].ends_with("=ACG!")) << name << ": " << found[0];
    EXPECT_TRUE(found[1].ends_with("/rc=CGT!")) << name << ": " << found[1];
  }
}

TEST_F(Transform, EveryDocumentEndsWithItsTokenAlsoAnEmptyOne) {
  EXPECT_EQ(imported("a.fa", ">a\nAC\n>b\n>c\nG\n", {.append_eod = 66}), (Documents{"a=ACB", "b=B", "c=GB"}));
  EXPECT_EQ(report_.empty_documents, 0);
  EXPECT_EQ(report_.tokens, 6);
}

TEST_F(Transform, WeightsAreTakenBeforeUpperCaseAndFollowTheReverseComplement) {
  const TransformOptions options{
      .uppercase = true, .append_eod = 0, .strands = Strands::both, .lower_case_weight = 0.25, .mask_ambiguous = true};
  const Documents found = imported("a.fa", ">a\nACgtNnUG\n", options);
  EXPECT_EQ(found, (Documents{std::string("a=ACGTNNUG\0", 11), std::string("a/rc=CANNACGT\0", 14)}));
  EXPECT_EQ(label_weights_in(out_), (Weights{1, 1, 0.25F, 0.25F, 0, 0, 0, 1, 1,  //
                                             1, 0, 0, 0, 0.25F, 0.25F, 1, 1, 1}));
  EXPECT_TRUE(Dataset(out_).has_loss_weights());
}

TEST_F(Transform, WithoutWeightsNoListIsStored) {
  imported("a.fa", ">a\nAC\n", {.uppercase = true, .strands = Strands::both});
  EXPECT_FALSE(Dataset(out_).has_loss_weights());
  EXPECT_FALSE(Dataset(out_).has_loss_mask());
}

TEST_F(Transform, TagsWeighNothing) {
  const TransformOptions tags{.append_eod = 0, .mask_between = "|"};
  imported("a.lines", "|d__X;a|ACGT||G|x|\nAC\n", tags);
  EXPECT_EQ(label_weights_in(out_), (Weights{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}));
  imported("a.lines", "|t|ACn\n", {.strands = Strands::complement, .lower_case_weight = 0.5, .mask_between = "|"});
  EXPECT_EQ(label_weights_in(out_), (Weights{0.5F, 1, 1, 0, 0, 0}));
  EXPECT_NE(refusal("a.lines", "AC\n|t|A|C\n", tags).find("document 'a.lines:2': found '|' 3 times"),
            std::string::npos);
  const ImportReport report = import_files({.files = {folder_.write("a.lines", "AC\n|t|A|C\nG\n")},
                                            .out = out_,
                                            .force = true,
                                            .transform = tags,
                                            .skip_bad = true});
  EXPECT_EQ(documents_in(out_).size(), 2u);
  EXPECT_EQ(report.passed_over.records, 1);
}

TEST_F(Transform, TheEndOfADocumentIsNotAmbiguous) {
  imported("a.tokens", "65 78 0 1\n", {.mask_ambiguous = true});
  EXPECT_EQ(label_weights_in(out_), (Weights{1, 0, 1, 0}));
  imported("a.tokens", "65 78 0 1\n", {.append_eod = 1, .mask_ambiguous = true});
  EXPECT_EQ(label_weights_in(out_), (Weights{1, 0, 0, 1, 1}));
}

TEST_F(Transform, RefusesValuesOutOfRange) {
  EXPECT_NE(refusal("a.fa", ">a\nA\n", {.append_eod = 512}).find("append-eod is 512, expected an id from 0 to 511"),
            std::string::npos);
  EXPECT_NE(refusal("a.fa", ">a\nA\n", {.append_eod = -1}), "no error");
  EXPECT_NE(refusal("a.fa", ">a\nA\n", {.lower_case_weight = 1.5}).find("lower-case-weight is 1.5"), std::string::npos);
  EXPECT_NE(refusal("a.fa", ">a\nA\n", {.lower_case_weight = NAN}), "no error");
  for (const char* wrong : {"||", "\xff", "\xc3\xbc"})
    EXPECT_NE(refusal("a.fa", ">a\nA\n", {.mask_between = wrong}).find("mask-between"), std::string::npos);
  EXPECT_EQ(folder_.count(), 1u);
}

/// Documents of many lengths around the sizes of blocks and of memory: twice complemented they are the same again.
TEST_F(Transform, ALongDocumentIsKeptInAFileAndComesBackTheSame) {
  const RandomStream random(1, 2);
  for (const std::int64_t length : {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 200'000}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(length));
    Weights weights(tokens.size());
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      tokens[t] = "ACGTacgtNR"[random.below(t, 10)];
      weights[t] = static_cast<float>(random.below(t, 5)) / 4;
    }
    {
      DatasetWriter writer(out_, 512, "test", {.loss_weights = true});
      DocumentTransform::Settings settings;
      settings.options.strands = Strands::both;
      settings.lists.loss_weights = true;
      settings.beside = out_;
      settings.memory = 100'000;
      DocumentTransform transform(settings, writer);
      for (int round = 0; round < 2; ++round) {
        transform.begin("d");
        for (std::size_t at = 0; at < tokens.size(); at += 10'000) {
          const std::size_t count = std::min<std::size_t>(10'000, tokens.size() - at);
          transform.append(std::span(tokens).subspan(at, count), std::span(weights).subspan(at, count));
        }
        if (round == 0) transform.drop();  // and begins again
      }
      EXPECT_EQ(folder_.count(), 1u) << "the spool has no name";
      transform.end();
      writer.finish();
    }
    const Documents found = documents_in(out_);
    ASSERT_EQ(found.size(), 2u);
    EXPECT_TRUE(found[0] == "d=" + std::string(tokens.begin(), tokens.end()));
    const Weights all = label_weights_in(out_);
    EXPECT_TRUE(std::equal(weights.begin(), weights.end(), all.begin()));
    EXPECT_TRUE(std::equal(weights.rbegin(), weights.rend(), all.begin() + length));
    std::string back;
    for (std::size_t at = found[1].size(); at > 5; --at) {
      const char base = found[1][at - 1];
      const std::string from = "ACGTacgtNRYnry", to = "TGCAtgcaNYRnyr";
      back += to[from.find(base)];
    }
    EXPECT_TRUE("d=" + back == found[0]) << length;
    std::filesystem::remove(out_);
  }
}

}  // namespace
}  // namespace causeway
