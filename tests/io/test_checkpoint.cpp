#include "io/checkpoint.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::bytes_of;
using testing::TemporaryFolder;

/// Tensors of one to three axes and every type; element i of tensor n is 100n + i/4, which all of them hold exactly.
struct Whole {
  std::string name;
  Shape shape;
  DType dtype;
};
const std::vector<Whole> tensors{{"parameters/matrix", {37, 5}, DType::f32},
                                 {"parameters/conv", {6, 1, 4}, DType::bf16},
                                 {"optimizer/master/vector", {101}, DType::f64},
                                 {"optimizer/master/one", {1}, DType::f32}};

std::vector<std::byte> elements(std::size_t n, Range range) {
  std::vector<std::byte> bytes;
  dispatch(tensors[n].dtype, [&]<class T>() {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const T value(static_cast<Accumulator<T>>(100.0 * static_cast<double>(n) + static_cast<double>(i % 64) / 4));
      const auto* const raw = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), raw, raw + sizeof value);
    }
  });
  return bytes;
}

/// Rank r of R brings elements ⌊rn/R⌋ … ⌊(r+1)n/R⌋ of each tensor; the last tensor comes from the last rank alone.
void write(const std::string& run, std::int64_t step, Communicator& ranks) {
  CheckpointContent content{.attributes = {{"width", std::int64_t{7}}, {"layers", std::string("mamba*2")}},
                            .state = {{"step", step}, {"loss", 1.5}},
                            .tensors = {}};
  std::vector<std::vector<std::byte>> data;
  for (std::size_t n = 0; n < tensors.size(); ++n) {
    const std::int64_t size = tensors[n].shape.size();
    const Range owned{ranks.rank() * size / ranks.size(), (ranks.rank() + 1) * size / ranks.size()};
    data.push_back(elements(n, owned));
    content.tensors.push_back({tensors[n].name, tensors[n].shape, tensors[n].dtype, owned, data.back().data()});
  }
  write_checkpoint(run, step, content, ranks, Stream());
}

TEST(Checkpoint, IsReadInAnyRangesHoweverManyRanksWroteIt) {
  const TemporaryFolder folder;
  std::string first;
  for (const int ranks : {1, 2, 3, 7}) {
    const std::string run = folder / fmt::format("run{}", ranks);
    on_ranks(ranks, [&](Communicator& world) { write(run, 5, world); });
    const Checkpoint checkpoint(run);
    EXPECT_EQ(checkpoint.integer("width"), 7);
    EXPECT_EQ(checkpoint.text("layers"), "mamba*2");
    EXPECT_EQ(checkpoint.state().integer_attribute("step"), 5);
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      const std::int64_t size = tensors[n].shape.size();
      for (const Range range :
           {Range{0, size}, Range{0, size / 2}, Range{size / 3, size}, Range{size / 3, size / 2}, Range{size, size}}) {
        std::vector<std::byte> found(static_cast<std::size_t>(range.size() * size_of(tensors[n].dtype)));
        checkpoint.read(tensors[n].name, tensors[n].shape, tensors[n].dtype, range, found.data());
        EXPECT_EQ(found, elements(n, range)) << tensors[n].name << " [" << range.begin << ", " << range.end << ")";
      }
    }
    const std::string bytes = bytes_of(run + "/step-5/index.h5");
    if (first.empty()) first = bytes;
    EXPECT_TRUE(bytes == first) << "the file of " << ranks << " ranks differs from that of one";
  }
}

TEST(Checkpoint, TheLatestIsTheLastOneWritten) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  EXPECT_FALSE(latest_checkpoint(run).has_value());
  on_ranks(1, [&](Communicator& world) {
    std::filesystem::create_directories(run + "/step-2.tmp/left over");
    for (const std::int64_t step : {1, 2, 2}) {  // step 2 twice: a run that ended before `latest` named it
      write(run, step, world);
      EXPECT_EQ(std::filesystem::path(latest_checkpoint(run).value()).filename(), fmt::format("step-{}", step));
    }
  });
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(run)) ++entries;
  EXPECT_EQ(entries, 3u);  // step-1, step-2, latest
}

ExitCode code_of(const std::function<void()>& work, const std::string& named) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    return error.code();
  }
  return ExitCode::ok;
}

/// No file of this process grows beyond `bytes` from now on, as on a full disk.
void fill_the_disk(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(CheckpointDeathTest, AFullDiskLeavesTheOneBeforeAndNothingElse) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  on_ranks(1, [&](Communicator& world) { write(run, 1, world); });
  // In a process of its own: HDF5 1.10 never quite lets go of a file that it could not write to its end.
  const auto in_a_child = [&] {
    fill_the_disk(4096);
    ExitCode code = ExitCode::ok;
    on_ranks(1, [&](Communicator& world) { code = code_of([&] { write(run, 2, world); }, "index.h5"); });
    std::_Exit(static_cast<int>(code));
  };
  EXPECT_EXIT(in_a_child(), ::testing::ExitedWithCode(static_cast<int>(ExitCode::io)), "");
  EXPECT_EQ(std::filesystem::path(latest_checkpoint(run).value()).filename(), "step-1");
  EXPECT_FALSE(std::filesystem::exists(run + "/step-2.tmp"));
  EXPECT_FALSE(std::filesystem::exists(run + "/step-2"));
}

TEST(Checkpoint, DamageIsNamed) {
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

  const std::string index = run + "/step-1/index.h5", good = bytes_of(index);
  const auto row = elements(0, {5, 10});
  const std::size_t at = good.find(std::string(reinterpret_cast<const char*>(row.data()), row.size()));
  ASSERT_NE(at, std::string::npos);
  std::string bad = good;
  bad[at] = static_cast<char>(bad[at] ^ 1);
  folder.write("run/step-1/index.h5", bad);
  EXPECT_EQ(code_of([&] { read("parameters/matrix", {37, 5}); }, "parameters/matrix"), ExitCode::corrupt);
  for (const std::size_t length : {std::size_t{0}, std::size_t{100}, good.size() / 2, good.size() - 1}) {
    folder.write("run/step-1/index.h5", good.substr(0, length));
    EXPECT_EQ(code_of([&] { read("parameters/matrix", {37, 5}); }, "index.h5"), ExitCode::corrupt) << length;
  }
  std::filesystem::remove(index);
  EXPECT_EQ(code_of([&] { Checkpoint{run}; }, "index.h5"), ExitCode::corrupt);
  std::filesystem::remove(run + "/step-1");
  EXPECT_EQ(code_of([&] { latest_checkpoint(run); }, "latest"), ExitCode::corrupt);
}

TEST(Checkpoint, AFullDiskEndsEveryRankAlike) {
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
