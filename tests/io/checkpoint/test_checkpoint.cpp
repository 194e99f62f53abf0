#include "io/checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/io/checkpoint_support.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::bytes_of;
using testing::TemporaryFolder;

TEST(Checkpoint, IsReadInAnyRangesForAnyNumberOfWriters) {
  const TemporaryFolder folder;
  for (const int ranks : {1, 2, 3, 7}) {
    const std::string run = folder / fmt::format("run{}", ranks);
    on_ranks(ranks, [&](Communicator& world) { write(run, 5, world); });
    const Checkpoint checkpoint(run);
    EXPECT_EQ(checkpoint.state().integer_attribute("step"), 5);
    EXPECT_EQ(checkpoint.tensors().size(), tensors.size());
    expect_whole(checkpoint);
    for (const int readers : {2, 5})
      on_ranks(readers, [&](Communicator& world) { expect_whole(Checkpoint(run, world)); });
  }
}

TEST(Checkpoint, HasTheSameBytesAtEveryTime) {
  const TemporaryFolder folder;
  for (const char* run : {"a", "b"}) on_ranks(3, [&](Communicator& world) { write(folder / run, 5, world); });
  const std::vector<std::string> names = names_in(folder / "a/step-5");
  EXPECT_EQ(names, (std::vector<std::string>{"index.h5", "manifest.json", "shard-00000.h5", "shard-00001.h5",
                                             "shard-00002.h5"}));
  for (const std::string& name : names)
    EXPECT_TRUE(bytes_of(folder / ("a/step-5/" + name)) == bytes_of(folder / ("b/step-5/" + name))) << name;
}

TEST(Checkpoint, TheLatestIsTheLastOneWritten) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  EXPECT_FALSE(latest_checkpoint(run).has_value());
  on_ranks(1, [&](Communicator& world) {
    fs::create_directories(run + "/step-2.tmp/left over");
    for (const std::int64_t step : {1, 2, 2}) {  // step 2 twice: by a run that resumed from step 1
      write(run, step, world);
      EXPECT_EQ(latest_of(run), fmt::format("step-{}", step));
    }
  });
  EXPECT_EQ(names_in(run), (std::vector<std::string>{"latest", "step-1", "step-2"}));
}

/// Damage to a file of a checkpoint. `other`: the same file of another checkpoint.
struct Damage {
  const char* name;
  std::function<void(const std::string& file, const std::string& other)> happen;
};

void flip(const std::string& file, double place, int bit) {
  std::string bytes = bytes_of(file);
  const auto at = std::min(bytes.size() - 1, static_cast<std::size_t>(place * static_cast<double>(bytes.size())));
  bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
  std::ofstream(file, std::ios::binary) << bytes;
}

std::vector<Damage> damages() {
  std::vector<Damage> all{
      {"missing", [](const std::string& file, const std::string&) { fs::remove(file); }},
      {"empty", [](const std::string& file, const std::string&) { fs::resize_file(file, 0); }},
      {"halved", [](const std::string& file, const std::string&) { fs::resize_file(file, fs::file_size(file) / 2); }},
      {"a byte short",
       [](const std::string& file, const std::string&) { fs::resize_file(file, fs::file_size(file) - 1); }},
      {"a byte long",
       [](const std::string& file, const std::string&) { fs::resize_file(file, fs::file_size(file) + 1); }},
      {"renamed", [](const std::string& file, const std::string&) { fs::rename(file, file + ".bak"); }},
      {"linked",
       [](const std::string& file, const std::string&) {
         fs::rename(file, file + ".bak");
         fs::create_symlink(fs::path(file + ".bak").filename(), file);
       }},
      {"a folder",
       [](const std::string& file, const std::string&) {
         fs::remove(file);
         fs::create_directory(file);
       }},
      {"another step's", [](const std::string& file, const std::string& other) {
         fs::remove(file);
         fs::copy_file(other, file);
       }}};
  for (int i = 0; i <= 20; ++i)
    all.push_back({"flipped", [i](const std::string& file, const std::string&) { flip(file, i / 20.0, i % 8); }});
  return all;
}

TEST(Checkpoint, EveryDamageNamesItsFile) {
  const TemporaryFolder folder;
  on_ranks(2, [&](Communicator& world) {
    for (const std::int64_t step : {1, 2}) write(folder / "run", step, world);
  });
  const std::string good = folder / "run/step-2", bad = folder / "bad/step-2";
  for (const std::string& file : names_in(good))
    for (const Damage& damage : damages()) {
      fs::remove_all(bad);
      fs::create_directories(folder / "bad");
      fs::copy(good, bad);
      damage.happen(bad + "/" + file, folder / ("run/step-1/" + file));
      EXPECT_EQ(code_of([&] { expect_whole(Checkpoint(bad)); }, file), ExitCode::corrupt) << file << " " << damage.name;
    }
}

TEST(Checkpoint, DamageFoundByAnyRankThrowsOnAll) {
  const TemporaryFolder folder;
  on_ranks(5, [&](Communicator& world) { write(folder / "run", 1, world); });
  flip(folder / "run/step-1/shard-00004.h5", 0.5, 3);
  std::atomic<int> told = 0;
  on_ranks(3, [&](Communicator& world) {
    told += code_of([&] { Checkpoint(folder / "run", world); }, "shard-00004.h5: is damaged") == ExitCode::corrupt;
  });
  EXPECT_EQ(told, 3);
}

TEST(Checkpoint, OtherFoldersAreNotCheckpoints) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  on_ranks(2, [&](Communicator& world) { write(run, 1, world); });
  std::vector<float> out(185);
  const auto read = [&](const std::string& name, const Shape& shape) {
    Checkpoint(run).read(name, shape, DType::f32, {0, shape.size()}, out.data());
  };
  EXPECT_EQ(code_of([&] { read("parameters/absent", {5}); }, "parameters/absent"), ExitCode::corrupt);
  EXPECT_EQ(code_of(
                [&] {
                  read("parameters/matrix", {5, 37});
                },
                "parameters/matrix: shape is [37, 5], expected [5, 37]"),
            ExitCode::corrupt);
  EXPECT_EQ(code_of([&] { Checkpoint(folder / "nowhere"); }, "nowhere"), ExitCode::usage);
  fs::create_directory(folder / "model");
  folder.write("model/config.json", "{}");
  EXPECT_EQ(code_of([&] { Checkpoint(folder / "model"); }, "causeway convert"), ExitCode::usage);
  fs::rename(run + "/step-1", run + "/step-7");
  EXPECT_EQ(code_of([&] { Checkpoint(run + "/step-7"); }, "manifest.json: has step 1"), ExitCode::corrupt);
  EXPECT_EQ(code_of([&] { latest_checkpoint(run); }, "latest"), ExitCode::corrupt);
  fs::rename(run + "/step-7", run + "/best");
  expect_whole(Checkpoint(run + "/best"));
}

/// A checkpoint of version 1: one index.h5 with the tensors, and no manifest.
TEST(Checkpoint, VersionOneIsRead) {
  const TemporaryFolder folder;
  const std::string index = folder / "run/step-5/index.h5";
  fs::create_directories(folder / "run/step-5");
  {
    hdf5::File file = hdf5::File::open(index, hdf5::Access::create);
    file.set_attribute("format", std::string("causeway-checkpoint"));
    file.set_attribute("version", std::int64_t{1});
    file.set_attribute("width", std::int64_t{7});
    file.set_attribute("layers", std::string("mamba*2"));
    file.create_group("state").set_attribute("step", std::int64_t{5});
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      std::vector<double> values;
      for (std::int64_t i = 0; i < tensors[n].shape.size(); ++i) values.push_back(value_of(n, i, 5));
      file.create_dataset(tensors[n].name, {.shape = extents_of(tensors[n].shape),
                                            .type = stored_as(tensors[n].dtype),
                                            .chunk_rows = 2,
                                            .fletcher32 = true})
          .write_rows(0, std::span<const double>(values));
    }
    file.close();
  }
  {
    const Checkpoint checkpoint(folder / "run/step-5");
    EXPECT_FALSE(checkpoint.manifest().has_value());
    EXPECT_EQ(checkpoint.tensors().size(), tensors.size());
    expect_whole(checkpoint);
  }
  const std::string good = bytes_of(index);
  for (const std::size_t length : {std::size_t{0}, std::size_t{100}, good.size() / 2, good.size() - 1}) {
    folder.write("run/step-5/index.h5", good.substr(0, length));
    EXPECT_EQ(code_of([&] { expect_whole(Checkpoint(folder / "run/step-5")); }, "index.h5"), ExitCode::corrupt)
        << length;
  }
}

/// Limits the size of every file that this process writes, as a full disk does.
void fill_the_disk(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(CheckpointDeathTest, AFullDiskKeepsTheEarlierCheckpointAndLeavesNothingElse) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  on_ranks(1, [&](Communicator& world) { write(run, 1, world); });
  // In another process: libHDF5 1.10 keeps a file open that it could not write completely.
  const auto in_a_child = [&] {
    fill_the_disk(4096);
    std::atomic<int> told = 0;
    on_ranks(3, [&](Communicator& world) {
      told += code_of([&] { write(run, 2, world); }, "step-2.tmp/shard-0000") == ExitCode::io;
    });
    std::_Exit(told);
  };
  EXPECT_EXIT(in_a_child(), ::testing::ExitedWithCode(3), "");
  EXPECT_EQ(latest_of(run), "step-1");
  EXPECT_EQ(names_in(run), (std::vector<std::string>{"latest", "step-1"}));
}

TEST(Checkpoint, AFolderThatCannotBeCreatedThrowsOnEveryRank) {
  const TemporaryFolder folder;
  folder.write("run", "a file where the folder should be");
  std::atomic<int> failed = 0;
  on_ranks(3, [&](Communicator& world) {
    failed += code_of([&] { write(folder / "run", 1, world); }, "run") == ExitCode::io;
  });
  EXPECT_EQ(failed, 3);
}

}  // namespace
}  // namespace causeway::test
