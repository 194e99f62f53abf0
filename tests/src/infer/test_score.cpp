/// `causeway score`, run as a program: what it computes besides the log-likelihoods of the stored strand. That these
/// are right on any number of ranks is tested in tests/src/test_train.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/random.hpp"
#include "src/infer/strand.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// 14 documents of 0 to 200 tokens, letters and other bytes; some end with an end-of-document token, as Evo 2's do.
void write_sequences(const std::string& path) {
  const std::string letters = "ACGTACGTACGTacgtNRYx-";
  const RandomStream random(3, 1);
  DatasetWriter writer(path, 512, "test");
  std::uint64_t draw = 0;
  for (int d = 0; d < 14; ++d) {
    writer.begin_document(fmt::format("sequence\t{}", d));
    std::vector<std::int32_t> tokens(d < 3 ? std::size_t(d) : random.below(draw++, 200));
    for (std::int32_t& token : tokens) token = letters[random.below(draw++, letters.size())];
    if (d % 3 == 2 && !tokens.empty()) tokens.back() = 0;
    writer.append(tokens);
  }
  writer.finish();
}

void write_reverse_complements(const Dataset& data, const std::string& path) {
  DatasetWriter writer(path, 512, "test");
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    const ReverseDocument document(data, d);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(document.tokens()));
    document.read(0, tokens);
    writer.begin_document(data.name(d));
    writer.append(tokens);
  }
  writer.finish();
}

class ScoreResults : public ::testing::Test {
 protected:
  void SetUp() override {
    write_sequences(folder_ / "data.h5");
    const Outcome trained =
        shell(folder_,
              "@causeway train --data data.h5 --layers 'se mr li attention mamba' --width 8 --heads 2 --mr-taps 9 "
              "--ffn 6 --state 4 --dtype f64 --pack-tokens 256 --steps 5 --run run");
    ASSERT_EQ(trained.exit, 0) << trained.err;
  }
  Outcome score(const std::string& options) const {
    return shell(folder_, "@causeway score --checkpoint run --transport local --pack-tokens 300 " + options);
  }
  void succeed(const std::string& options) const {
    const Outcome outcome = score(options);
    ASSERT_EQ(outcome.exit, 0) << options << "\n" << outcome.err;
  }
  std::vector<double> values(const std::string& file, const std::string& dataset) const {
    return hdf5::File::open(folder_ / file, hdf5::Access::read).dataset(dataset).read_all<double>(1 << 20);
  }
  const TemporaryFolder folder_;
};

const std::string cuts[] = {"", "--ranks 3 --layout zigzag", "--ranks 4 --data-parallel 2"};

TEST_F(ScoreResults, OfTokensAreStoredInTheModelsPrecision) {
  for (const auto& [dtype, type, bound] : {std::tuple("f64", hdf5::f64, 1e-12), std::tuple("f32", hdf5::f32, 1e-6)}) {
    succeed(std::string("--data data.h5 --out typed.h5 --dtype ") + dtype);
    const auto tokens = values("typed.h5", "token/log_likelihood"),
               documents = values("typed.h5", "document/log_likelihood");
    EXPECT_EQ(hdf5::File::open(folder_ / "typed.h5", hdf5::Access::read).dataset("token/log_likelihood").type(), type);
    double sum = 0, total = 0;
    for (const double value : tokens) sum += std::isnan(value) ? 0 : value;
    for (const double value : documents) total += value;
    EXPECT_NEAR(sum, total, bound * std::abs(total)) << dtype;
  }
}

TEST_F(ScoreResults, OfTheReverseStrandIsThatOfTheReverseComplement) {
  const Dataset data(folder_ / "data.h5");
  write_reverse_complements(data, folder_ / "reverse.h5");
  succeed("--data data.h5 --out forward.h5");
  succeed("--data reverse.h5 --out reverse-scores.h5");
  const auto forward = values("forward.h5", "document/log_likelihood"),
             reverse = values("reverse-scores.h5", "document/log_likelihood"),
             forward_tokens = values("forward.h5", "token/log_likelihood"),
             reverse_tokens = values("reverse-scores.h5", "token/log_likelihood");
  EXPECT_GT(relative_error(forward, reverse), 1e-4) << "the test sees a difference of the strands";
  std::vector<double> mean, opposite(reverse_tokens.size());
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    mean.push_back((forward[std::size_t(d)] + reverse[std::size_t(d)]) / 2);
    const ReverseDocument document(data, d);
    const std::int64_t start = data.cu_seqlens()[d];
    for (std::int64_t i = 0; i < document.tokens(); ++i)
      opposite[std::size_t(start + document.opposite(i))] = reverse_tokens[std::size_t(start + i)];
  }
  for (const std::string& cut : cuts) {
    ASSERT_NO_FATAL_FAILURE(succeed("--data data.h5 --out both.h5 --reverse-complement " + cut));
    EXPECT_LT(relative_error(values("both.h5", "document/log_likelihood"), mean), 1e-12) << cut;
    EXPECT_LT(relative_error(values("both.h5", "document/log_likelihood_forward"), forward), 1e-12) << cut;
    EXPECT_LT(relative_error(values("both.h5", "document/log_likelihood_reverse"), reverse), 1e-12) << cut;
    const auto tokens = values("both.h5", "token/log_likelihood"),
               mapped = values("both.h5", "token/log_likelihood_reverse");
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      EXPECT_TRUE(std::isnan(tokens[t]) ? std::isnan(forward_tokens[t])
                                        : std::abs(tokens[t] - forward_tokens[t]) < 1e-6);
      EXPECT_TRUE(std::isnan(mapped[t]) ? std::isnan(opposite[t]) : std::abs(mapped[t] - opposite[t]) < 1e-6) << t;
    }
  }
}

TEST_F(ScoreResults, ProbabilitiesAreThoseOfTheTokensLogLikelihoods) {
  const Dataset data(folder_ / "data.h5");
  std::vector<std::int32_t> ids(static_cast<std::size_t>(data.tokens()));
  data.read_tokens(0, ids);
  const std::string letters = "TacgACGN";
  for (const std::string& cut : cuts) {
    ASSERT_NO_FATAL_FAILURE(succeed("--data data.h5 --out p.h5 --probabilities " + letters + " " + cut));
    const auto scores = values("p.h5", "token/log_likelihood"), probabilities = values("p.h5", "token/probability"),
               stored_ids = values("p.h5", "token/probability_ids");
    ASSERT_EQ(probabilities.size(), ids.size() * letters.size());
    std::size_t compared = 0;
    for (std::size_t c = 0; c < letters.size(); ++c) {
      EXPECT_EQ(stored_ids[c], letters[c]);
      for (std::size_t t = 0; t < ids.size(); ++t) {
        const double probability = probabilities[t * letters.size() + c];
        EXPECT_EQ(std::isnan(probability), std::isnan(scores[t])) << t;
        if (std::isnan(scores[t]) || ids[t] != letters[c]) continue;
        EXPECT_NEAR(probability, std::exp(scores[t]), 1e-6) << t;
        ++compared;
      }
    }
    EXPECT_GT(compared, 100u);
  }
  const auto whole = values("p.h5", "token/probability");
  ASSERT_NO_FATAL_FAILURE(succeed("--data data.h5 --out half.h5 --probabilities-dtype f16 --probabilities " + letters));
  EXPECT_EQ(hdf5::File::open(folder_ / "half.h5", hdf5::Access::read).dataset("token/probability").type(), hdf5::f16);
  const auto half = values("half.h5", "token/probability");
  for (std::size_t i = 0; i < whole.size(); ++i)
    if (!std::isnan(whole[i])) {
      EXPECT_NEAR(half[i], whole[i], whole[i] / 2048 + 1e-7);
    } else {
      EXPECT_TRUE(std::isnan(half[i]));
    }
}

TEST_F(ScoreResults, SeveralLayersOfEmbeddingsAreThoseOfOneAtATime) {
  for (const std::string request : {"1:mean", "3:tokens", "5"})
    succeed(fmt::format("--data data.h5 --out {}.h5 --embeddings {}", request.substr(0, 1), request));
  for (const std::string options :
       {"--embeddings 1:mean --embeddings 3:tokens --embeddings 5", "--embeddings 5:mean,1,3:tokens --ranks 3",
        "--embeddings 1,5 --embeddings 3:tokens"}) {
    ASSERT_NO_FATAL_FAILURE(succeed("--data data.h5 --out all.h5 " + options));
    EXPECT_EQ(hdf5::File::open(folder_ / "all.h5", hdf5::Access::read).list("embeddings").size(), 3u);
    for (const std::string layer : {"1", "3", "5"})
      EXPECT_LT(relative_error(values("all.h5", "embeddings/layer_" + layer),
                               values(layer + ".h5", "embeddings/layer_" + layer)),
                1e-6)
          << options;
  }
}

TEST_F(ScoreResults, TheTableHasALineForEachDocument) {
  const Dataset data(folder_ / "data.h5");
  succeed("--data data.h5 --out s.h5 --tsv s.tsv");
  const auto scores = values("s.h5", "document/log_likelihood");
  std::ifstream file(folder_ / "s.tsv");
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "name\ttokens\tlog_likelihood\tper_token\tperplexity");
  for (std::int64_t d = 0; d < data.documents(); ++d) {
    const std::int64_t tokens = data.cu_seqlens()[d + 1] - data.cu_seqlens()[d];
    const double score = scores[std::size_t(d)], each = score / static_cast<double>(tokens - 1);
    ASSERT_TRUE(std::getline(file, line));
    EXPECT_EQ(line, tokens < 2 ? fmt::format("sequence\\t{}\t{}\t0\t\t", d, tokens)
                               : fmt::format("sequence\\t{}\t{}\t{}\t{}\t{}", d, tokens, score, each, std::exp(-each)));
  }
  EXPECT_FALSE(std::getline(file, line)) << line;
  succeed("--data data.h5 --out s.h5 --tsv s.tsv --reverse-complement");
  std::ifstream again(folder_ / "s.tsv");
  std::getline(again, line);
  EXPECT_EQ(line,
            "name\ttokens\tlog_likelihood\tper_token\tperplexity\tlog_likelihood_forward\tlog_likelihood_reverse");
  succeed("--data data.h5 --out s.h5 --tsv s.tsv");  // replaces its own tables, also those of other columns
}

TEST_F(ScoreResults, WrongRequestsAreRefused) {
  folder_.write("other.tsv", "name\tlength\n");
  struct Row {
    std::string options, error;
    int exit = 2;
  };
  const Row table[] = {
      {"--embeddings 6", "names layer 6, expected 0 (the embedding) to 5"},
      {"--embeddings 1:mean,2:sum", "--embeddings is '2:sum'"},
      {"--embeddings 1,", "--embeddings is ''"},
      {"--embeddings 1 --embeddings 2,1:tokens", "names layer 1 twice"},
      {"--probabilities ACA", "byte 65 is there twice"},
      {"--probabilities ACGT --probabilities-dtype f8", "f8"},
      {"--tsv other.tsv", "other.tsv: exists and is not an earlier table"},
      {"--tsv data.h5", "--tsv is 'data.h5', the dataset itself"},
      {"--tsv run/latest/index.h5", "a file of the checkpoint"},
      {"--tsv x.h5", "--tsv is 'x.h5', as --out"},
      {"--tsv nowhere/x.tsv", "nowhere", 74},
  };
  for (const Row& row : table) {
    const Outcome outcome = score("--data data.h5 --out x.h5 " + row.options);
    EXPECT_EQ(outcome.exit, row.exit) << row.options << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.options << "\n" << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "x.h5")) << row.options;
  }
  EXPECT_EQ(testing::bytes_of(folder_ / "other.tsv"), "name\tlength\n");
}

TEST_F(ScoreResults, InspectSummarizesScoresAndFindsDamage) {
  succeed("--data data.h5 --out s.h5 --reverse-complement --embeddings 1:tokens,2 --probabilities AC");
  const Outcome plain = shell(folder_, "@causeway inspect s.h5"),
                verified = shell(folder_, "@causeway inspect s.h5 --verify");
  ASSERT_EQ(plain.exit, 0) << plain.err;
  ASSERT_EQ(verified.exit, 0) << verified.err;
  for (const char* line : {"s.h5: scores, ", "  documents     14, 2 of them without a score", "  strands       both",
                           "nats a token, perplexity", "  best          -", "  worst         -",
                           "layer_1: of 8 channels, f32, one row for each of the tokens",
                           "layer_2: of 8 channels, f32, one row for each of the documents",
                           "  probabilities of A, C, f32", "sequence\\x09"})
    EXPECT_NE(verified.out.find(line), std::string::npos) << line << "\n" << verified.out;
  EXPECT_EQ(verified.out.find(plain.out), 0u) << plain.out;
  EXPECT_NE(verified.out.find("  verified "), std::string::npos);

  const std::string bytes = testing::bytes_of(folder_ / "s.h5");
  folder_.write("cut.h5", bytes.substr(0, bytes.size() / 2));
  const Outcome cut = shell(folder_, "@causeway inspect cut.h5");
  EXPECT_EQ(cut.exit, 65) << cut.err;
  EXPECT_NE(cut.err.find("cut.h5"), std::string::npos);
  const auto change = [&](const std::string& name, std::int64_t row, double value) {
    folder_.write("changed.h5", bytes);
    auto file = hdf5::File::open(folder_ / "changed.h5", hdf5::Access::update);
    file.dataset(name).write_rows(row, std::span<const double>(&value, 1));
  };
  for (const char* name : {"token/log_likelihood", "token/log_likelihood_reverse", "document/log_likelihood_reverse",
                           "document/log_likelihood", "document/tokens", "cu_seqlens"}) {
    change(name, 5, 17);
    const Outcome outcome = shell(folder_, "@causeway inspect changed.h5 --verify");
    EXPECT_NE(outcome.exit, 0) << name << "\n" << outcome.out;
    EXPECT_NE(outcome.err.find("changed.h5:/"), std::string::npos) << name << "\n" << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
