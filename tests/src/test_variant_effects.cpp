/// scripts/variant_effects, on the lambda phage where it is installed, and on small sequences.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "kernels/core/random.hpp"
#include "tests/src/python.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

using Row = std::vector<std::string>;

/// The rows of a table between tabs, without the column names.
std::vector<Row> rows_of(const std::string& path) {
  std::vector<Row> rows;
  std::istringstream lines(testing::bytes_of(path));
  for (std::string line; std::getline(lines, line);) {
    Row& row = rows.emplace_back();
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, '\t');) row.push_back(cell);
  }
  if (!rows.empty()) rows.erase(rows.begin());
  return rows;
}

class VariantEffects : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = without_python("gzip"); !why.empty()) GTEST_SKIP() << why;
    const std::string letters = "ACGT";
    const RandomStream random(2, 2);
    for (std::uint64_t i = 0; i < 700; ++i) genome_ += letters[random.below(i, 4)];
    folder_.write("small.fa",
                  fmt::format(">other\nACGTA\n>s the sequence\n{}\n{}\n", genome_.substr(0, 300), genome_.substr(300)));
    const Outcome trained = shell(folder_,
                                  "@causeway import small.fa --out small.h5 && @causeway train --data small.h5 --run "
                                  "run --layers 'mamba attention se' --width 16 --heads 2 --dtype f64 --pack-tokens "
                                  "256 --steps 20");
    ASSERT_EQ(trained.exit, 0) << trained.err;
  }

  Outcome effects(const std::string& options) const {
    return shell(folder_, fmt::format("'{}' {}/scripts/variant_effects --causeway @causeway --checkpoint run {}",
                                      python(), CAUSEWAY_TEST_SOURCE, options));
  }
  std::vector<Row> effects_of(const std::string& options) const {
    const Outcome outcome = effects(options + " --out effects.tsv --force");
    EXPECT_EQ(outcome.exit, 0) << options << "\n" << outcome.err;
    return rows_of(folder_ / "effects.tsv");
  }
  /// The log-likelihoods of sequences.
  std::vector<double> scores(const std::vector<std::string>& sequences, const std::string& options = "") const {
    std::string fasta;
    for (const std::string& sequence : sequences) fasta += ">x\n" + sequence + "\n";
    folder_.write("by_hand.fa", fasta);
    const Outcome outcome =
        shell(folder_,
              "@causeway import by_hand.fa --out by_hand.h5 --force && @causeway score --checkpoint "
              "run --data by_hand.h5 --out by_hand_scores.h5 --tsv by_hand.tsv " +
                  options);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    std::vector<double> found;
    for (const Row& row : rows_of(folder_ / "by_hand.tsv")) found.push_back(std::stod(row[2]));
    return found;
  }
  /// Compares a row with the scores of two sequences.
  static void expect_row(const Row& row, const Row& variant, double reference, double changed) {
    ASSERT_EQ(row.size(), 7u);
    EXPECT_EQ(Row(row.begin(), row.begin() + 4), variant);
    EXPECT_NEAR(std::stod(row[4]), reference, 1e-9 * std::abs(reference));
    EXPECT_NEAR(std::stod(row[5]), changed, 1e-9 * std::abs(changed));
    EXPECT_NEAR(std::stod(row[6]), changed - reference, 1e-9 * std::abs(reference));
  }

  const TemporaryFolder folder_;
  std::string genome_;
};

std::string other_base(char base) { return base == 'A' ? "G" : "A"; }

TEST_F(VariantEffects, AreTheDifferencesOfTwoScores) {
  constexpr std::size_t window = 100;
  std::string vcf = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
  std::vector<std::string> sequences;
  std::vector<Row> variants;
  const std::vector<std::size_t> positions{699, 0, 350, 49, 50, 650, 10};  // not in order: the rows keep it
  for (const std::size_t at : positions) {
    const std::size_t first = std::min(at < 50 ? 0 : at - 50, genome_.size() - window);
    const std::string ref(1, genome_[at]), alt = other_base(genome_[at]);
    std::string changed = genome_;
    changed.replace(at, 1, alt);
    sequences.push_back(genome_.substr(first, window));
    sequences.push_back(changed.substr(first, window));
    variants.push_back({"s", std::to_string(at + 1), ref, alt});
    vcf += fmt::format("s\t{}\t.\t{}\t{}\t.\t.\t.\n", at + 1, ref, alt);
  }
  folder_.write("v.vcf", vcf);
  ASSERT_EQ(shell(folder_, "gzip -k v.vcf small.fa").exit, 0);
  for (const std::string strands : {"", "--reverse-complement"}) {
    const std::vector<double> by_hand = scores(sequences, strands);
    for (const std::string options :
         {"--reference small.fa --variants v.vcf", "--reference small.fa.gz --variants v.vcf.gz --part 4",
          "--reference small.fa --variants v.vcf --ranks 3"}) {
      const auto rows = effects_of(options + " --window 100 " + strands);
      ASSERT_EQ(rows.size(), positions.size()) << options;
      for (std::size_t v = 0; v < rows.size(); ++v)
        expect_row(rows[v], variants[v], by_hand[2 * v], by_hand[2 * v + 1]);
    }
  }
}

TEST_F(VariantEffects, OfSeveralAllelesIndelsAndSymbolicOnes) {
  const std::string ref = genome_.substr(300, 3), base(1, genome_[300]);
  folder_.write(
      "v.vcf",
      fmt::format("##fileformat=VCFv4.2\ns\t301\t.\t{}\t{},{}TTT,<DEL>,*\ns\t301\t.\t{}\t.\ns\t301\t.\t{}\t{}\n"
                  "s\t5\t.\t{}\t{}[s:9[\n",
                  ref, base, ref, ref, ref, base, genome_[4], genome_[4]));
  const std::string reference = genome_.substr(301 - 50, 100);
  const std::vector<double> by_hand = scores({reference, genome_.substr(251, 50) + genome_.substr(303, 48),
                                              genome_.substr(251, 49) + ref + "TTT" + genome_.substr(303, 48)});
  const Outcome outcome = effects("--reference small.fa --variants v.vcf --window 100 --out effects.tsv");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("3 variants, 3 windows scored, 4 symbolic alleles skipped"), std::string::npos)
      << outcome.err;
  const auto rows = rows_of(folder_ / "effects.tsv");
  ASSERT_EQ(rows.size(), 3u);
  expect_row(rows[0], {"s", "301", ref, base}, by_hand[0], by_hand[1]);
  expect_row(rows[1], {"s", "301", ref, ref + "TTT"}, by_hand[0], by_hand[2]);
  EXPECT_EQ(rows[2], rows[0]) << "the same variant again is not scored again";
}

TEST_F(VariantEffects, OfATableOnTheLambdaPhage) {
  const std::string lambda = "/usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz";
  if (!std::filesystem::exists(lambda)) GTEST_SKIP() << "bowtie2-examples is not installed";
  // The genome begins GGGCGGCG and ends with ACG.
  folder_.write("v.tsv",
                "chrom\tpos\tref\talt\tnote\n# a comment\ngi|9626243|ref|NC_001416.1|\t48502\tG\tT\tlast\n"
                "gi|9626243|ref|NC_001416.1|\t1\tG\tA,c\tfirst\n");
  const auto rows = effects_of("--reference " + lambda + " --variants v.tsv --window 300");
  ASSERT_EQ(rows.size(), 3u);
  std::string genome = shell(folder_, "zcat " + lambda).out;
  genome.erase(0, genome.find('\n'));
  std::erase(genome, '\n');
  ASSERT_EQ(genome.size(), 48502u);
  const std::string first = genome.substr(1, 299), last = genome.substr(genome.size() - 300, 299);
  const std::vector<double> by_hand = scores({last + "G", last + "T", "G" + first, "A" + first, "C" + first});
  const std::string name = "gi|9626243|ref|NC_001416.1|";
  expect_row(rows[0], {name, "48502", "G", "T"}, by_hand[0], by_hand[1]);
  expect_row(rows[1], {name, "1", "G", "A"}, by_hand[2], by_hand[3]);
  expect_row(rows[2], {name, "1", "G", "c"}, by_hand[2], by_hand[4]);
}

TEST_F(VariantEffects, OfPipesAndOfFilesWithAByteOrderMark) {
  const std::string alt = genome_[9] == 'A' ? "C" : "A";
  const std::string record = fmt::format("s\t10\t.\t{}\t{}\n", genome_[9], alt);
  const std::string top = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n";
  folder_.write("v.vcf", top + record);
  folder_.write("marked.vcf", "\xef\xbb\xbf" + top + record);
  const std::vector<Row> expected = effects_of("--reference small.fa --variants v.vcf");
  ASSERT_EQ(expected.size(), 1u);
  EXPECT_EQ(effects_of("--reference small.fa --variants marked.vcf"), expected);
  const Outcome piped = shell(folder_, fmt::format("sh -c 'cat v.vcf | {} {}/scripts/variant_effects --causeway "
                                                   "@causeway --checkpoint run --reference small.fa --variants "
                                                   "/dev/stdin --out piped.tsv'",
                                                   python(), CAUSEWAY_TEST_SOURCE));
  EXPECT_EQ(piped.exit, 0) << piped.err;
  EXPECT_EQ(rows_of(folder_ / "piped.tsv"), expected);
}

TEST_F(VariantEffects, WrongInputsAreNamedAndLeaveNothing) {
  folder_.write("kept.tsv", "mine");
  const std::string base(1, genome_[9]);
  struct Case {
    std::string variants, error;
    int exit = 2;
    std::string options = "";
  };
  const Case table[] = {
      {"s\t10\t" + other_base(genome_[9]) + "\tT\n", "v.tsv:1: s:10: reference allele is " + other_base(genome_[9])},
      {"s\t10\t" + base + "\tT\ns\t701\tA\tT\n", "v.tsv:2: s:701: the reference allele ends at base 701"},
      {"s\t10\t" + base + "\tT\nchr1\t1\tA\tT\n", "v.tsv:2: small.fa has no sequence 'chr1'"},
      {"s\t0\tA\tT\n", "v.tsv:1: position is '0'"},
      {"s\t10\t" + base + "\tT\ns\tx\tA\tT\n", "v.tsv:2: position is 'x'"},
      {"s\t10\tA\n", "v.tsv:1: found 3 columns, expected 4"},
      {"s\t10\t" + base + "\t1\n", "v.tsv:1: alternative allele is '1'"},
      {"s\t10\t" + base + "\tT\n", "--window is 1", 2, "--window 1"},
      {"s\t10\t" + base + "\tT\n", "kept.tsv: exists", 2, "--out kept.tsv"},
      {"s\t10\t" + base + "\tT\n", "nowhere", 2, "--checkpoint nowhere"},
      {"s\t10\t" + base + "\tT\n", "nowhere.fa", 2, "--reference nowhere.fa"},
      {"s\t10\t" + base + "\tT\n", "no-such-program", 2, "--causeway ./no-such-program"},
  };
  for (const Case& row : table) {
    folder_.write("v.tsv", row.variants);
    const std::size_t files = folder_.count();
    const Outcome outcome = effects("--reference small.fa --variants v.tsv --out e.tsv " + row.options);
    EXPECT_EQ(outcome.exit, row.exit) << row.error << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.error << "\n" << outcome.err;
    EXPECT_EQ(outcome.err.find("Traceback"), std::string::npos) << outcome.err;
    EXPECT_EQ(folder_.count(), files) << row.error;
  }
  EXPECT_EQ(testing::bytes_of(folder_ / "kept.tsv"), "mine");
}

}  // namespace
}  // namespace causeway::test
