#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "io/hdf5/hdf5.hpp"
#include "tests/src/op/op_references.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

/// Two processes of one mpirun that get different words or, in the folders a and b, different files.
struct DifferentRanks {
  std::string first, second;
  std::string said;
};

const std::string shape = " --layers mamba --width 8 --state 2 --pack-tokens 16 ";

void write_case(const std::string& path, const std::vector<std::int64_t>& documents) {
  const ReferenceCase c = op_references().at("causal_conv").make(20, documents, true);
  hdf5::File file = hdf5::File::open(path, hdf5::Access::create);
  for (const auto& [name, values] : c.inputs) file.write<double>(name, c.shapes.at(name), values);
  file.write<std::int64_t>("cu_seqlens", {static_cast<std::int64_t>(documents.size())}, documents);
  file.set_attribute("activation", std::string("silu"));
  file.close();
}

class RankDifferences : public ::testing::Test {
 protected:
  RankDifferences() {
    for (const std::string name : {"a", "b"}) {
      std::filesystem::create_directory(folder_ / name);
      folder_.write(name + "/x.lines", name == "a" ? "one\ntwo three\n" : "one\nthree\n");
      write_case(folder_ / (name + "/case.h5"), {0, name == "a" ? 7 : 9, 20});
      folder_.write(name + "/p.txt", name == "a" ? "ACG" : "AC");
      const Outcome made = shell(folder_, fmt::format("@causeway import {0}/x.lines --out {0}/data.h5 && @causeway "
                                                      "train --data {0}/data.h5 --run {0}/run --steps 1 {1}",
                                                      name, shape));
      EXPECT_EQ(made.exit, 0) << made.err;
    }
  }

  void expect_refused(const DifferentRanks& ranks) {
    const Outcome outcome =
        shell(folder_, fmt::format("timeout 50 @mpirun -n 2 {} : -n 1 {}", ranks.first, ranks.second));
    EXPECT_EQ(outcome.exit, 2) << ranks.second << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(ranks.said), std::string::npos) << ranks.second << "\n" << outcome.err;
  }

  const testing::TemporaryFolder folder_;
};

TEST_F(RankDifferences, OfOptionsAreRefused) {
  const std::string train = "@causeway train --data a/data.h5 --run new" + shape;
  for (const DifferentRanks& ranks : {
           DifferentRanks{train + "--steps 3", train + "--steps 4", "rank 2 has 'steps = 4', rank 0 has 'steps = 3'"},
           {train + "--steps 3", train + "--steps 3 --seed 1", "rank 2 has 'seed = 1', rank 0 has 'seed = 0'"},
           {train + "--steps 3", train + "--steps 3 --data b/data.h5", "rank 2 has 'data = b/data.h5'"},
           {train + "--steps 3", train + "--steps 3 --trace t.json", "rank 2 has 'trace = t.json'"},
           {train, "@causeway score --checkpoint a/run --data a/data.h5 --out s.h5", "rank 2 has 'score', rank 0"},
       })
    expect_refused(ranks);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
}

/// A process of a command without ranks does not wait for the others; the ranks of a training would wait for it.
TEST_F(RankDifferences, OfCommandsWithoutRanksAreRefused) {
  const std::string train = "@causeway train --steps 3 --data a/data.h5 --run new" + shape;
  for (const DifferentRanks& ranks : {
           DifferentRanks{"@causeway import a/x.lines --out i.h5", train, "rank 2 has 'train', rank 0 has 'import'"},
           {train, "@causeway import a/x.lines --out i.h5", "rank 2 has 'import', rank 0 has 'train'"},
           {"@causeway import a/x.lines --out i.h5", "@causeway import b/x.lines --out i.h5",
            "rank 2 has 'files = b/x.lines', rank 0 has 'files = a/x.lines'"},
           {"@causeway import a/x.lines --out i.h5", "@causeway import --nonsense", "unknown option '--nonsense'"},
           {"@causeway import --nonsense", "@causeway import a/x.lines --out i.h5", "unknown option '--nonsense'"},
           {"@causeway inspect a/data.h5", train, "rank 2 has 'train', rank 0 has 'inspect'"},
           {"@causeway --version", train, "rank 2 has 'train', rank 0 has '--version'"},
           {"@causeway import --help", train, "rank 2 has 'train', rank 0 has 'import --help'"},
           {"@causeway op --list", train, "rank 2 has 'train', rank 0 has 'op'"},
           {train + " --transport local --ranks 2", train,
            "rank 2 has 'transport = auto', rank 0 has 'transport = local'"},
           {"@causeway bench operators", train, "rank 2 has 'train', rank 0 has 'bench'"},
       })
    expect_refused(ranks);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "i.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
}

TEST_F(RankDifferences, SeveralProcessesThatWouldEachDoAllOfTheWorkAreRefused) {
  const std::string train = "@causeway train --steps 3 --data a/data.h5 --run new --transport local --ranks 2" + shape;
  expect_refused({train, train, "--transport is local, but several processes were started"});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
}

/// Only one process for each rank can start MPI: a command without ranks leaves it to the next one of a script.
TEST_F(RankDifferences, AScriptOfSeveralCommandsRunsUnderALauncher) {
  folder_.write("script.sh", expanded("set -e\n@causeway import a/x.lines --out i.h5 --force\n@causeway inspect a/run\n"
                                      "@causeway train --steps 3 --data a/data.h5 --run new" +
                                      shape));
  const Outcome outcome = shell(folder_, "timeout 50 @mpirun -n 2 sh script.sh");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "new/step-3"));
}

TEST_F(RankDifferences, OfFilesWithTheSameNameAreRefused) {
  const std::string top = std::filesystem::path(folder_ / "a").parent_path().string();
  const auto in = [](const std::string& name, const std::string& words) {
    return fmt::format("-wdir {} @causeway {}", name, words);
  };
  const std::string common = fmt::format("{}/a/", top);
  const std::string other_data = "data.h5: rank 2 has 2 documents, 8 tokens, identity ",
                    other_weights = "run: rank 2 has step 1 of 1 ranks, its index with SHA-256 ";
  const std::pair<std::string, std::string> table[] = {
      {"train --data data.h5 --steps 2 --run " + common + "new" + shape, other_data},
      {"train --valid-data data.h5 --steps 2 --data " + common + "data.h5 --run " + common + "new" + shape, other_data},
      {"train --init-from run --steps 2 --data " + common + "data.h5 --run " + common + "new", other_weights},
      {"score --data data.h5 --checkpoint " + common + "run --out " + common + "s.h5", other_data},
      {"generate --shard parameters --tokens 3 --prompt A --checkpoint run", other_weights},
      {"generate --shard parameters --tokens 3 --prompt-file p.txt --checkpoint " + common + "run",
       "the prompts: rank 2 has 1 prompts of 2 tokens"},
      {"op causal_conv --in case.h5 --out " + common + "s.h5", "case.h5: rank 2 has D="},
  };
  for (const auto& [words, said] : table) expect_refused({in("a", words), in("b", words), said});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a/s.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a/s.h5.ranks.txt"));
}

}  // namespace
}  // namespace causeway::test
