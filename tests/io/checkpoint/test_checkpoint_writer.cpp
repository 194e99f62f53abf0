#include "io/checkpoint/checkpoint_writer.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "tests/io/checkpoint_support.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

/// Does the same as a training loop until its checkpoint is published: one sum in each step.
PublishedCheckpoint step_on(CheckpointWriter& writer, Communicator& ranks) {
  while (true) {
    const auto [done, failed] = writer.progress();
    const double all_done = ranks.sum(done), all_failed = ranks.sum(failed);
    if (const auto published = writer.advance({all_done, all_failed})) return *published;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(CheckpointWriter, WritesTheValuesThatWereThereAtStart) {
  const TemporaryFolder folder;
  on_ranks(3, [&](Communicator& world) {
    Part part(5, world);
    std::promise<void> promise;
    const std::shared_future<void> changed = promise.get_future().share();
    CheckpointWriter writer({.run = folder / "run",
                             .hook =
                                 [&](CheckpointStage stage, const std::string&) {
                                   if (stage == CheckpointStage::shard) changed.wait();
                                 }},
                            world, Stream());
    writer.start(5, part.content);
    EXPECT_TRUE(writer.busy());  // its thread waits for this test
    for (auto& bytes : part.data) std::ranges::fill(bytes, std::byte{0x55});
    promise.set_value();
    const PublishedCheckpoint published = step_on(writer, world);
    EXPECT_EQ(published.step, 5);
    EXPECT_FALSE(writer.busy());
    if (world.rank() == 0) {
      EXPECT_EQ(published.bytes, read_manifest(folder / "run/step-5").bytes());
      EXPECT_GT(published.seconds, 0);
    }
  });
  expect_whole(Checkpoint(folder / "run"));
}

/// Every stage, for a run that has step 1 and writes step 2, after which an older checkpoint is removed.
constexpr CheckpointStage stages[] = {CheckpointStage::copy,    CheckpointStage::shard,  CheckpointStage::hash,
                                      CheckpointStage::hashed,  CheckpointStage::index,  CheckpointStage::manifest,
                                      CheckpointStage::publish, CheckpointStage::latest, CheckpointStage::retire};

bool on_rank_zero_only(CheckpointStage stage) { return stage >= CheckpointStage::index; }

TEST(CheckpointWriter, AFailureAnywhereThrowsOnAllRanksAndKeepsEarlierCheckpoints) {
  for (const bool on_own_thread : {true, false})
    for (const CheckpointStage stage : stages) {
      if (stage == CheckpointStage::retire || stage == CheckpointStage::latest)
        continue;  // the checkpoint is published already
      const TemporaryFolder folder;
      const std::string run = folder / "run";
      std::atomic<int> told = 0;
      on_ranks(3, [&](Communicator& world) {
        write(run, 1, world);
        const Part part(2, world);
        bool failing = true;
        const int failing_rank = on_rank_zero_only(stage) ? 0 : 1;
        CheckpointWriter writer({.run = run,
                                 .hook =
                                     [&](CheckpointStage at, const std::string& path) {
                                       if (failing && at == stage && world.rank() == failing_rank)
                                         fail(ExitCode::io, "{}: no room here", path);
                                     },
                                 .on_own_thread = on_own_thread},
                                world, Stream());
        told += code_of(
                    [&] {
                      writer.start(2, part.content);
                      writer.finish();
                    },
                    "step-2.tmp") == ExitCode::io;
        world.barrier();
        EXPECT_FALSE(writer.busy());
        EXPECT_FALSE(fs::exists(run + "/step-2.tmp"));
        EXPECT_FALSE(fs::exists(run + "/step-2"));
        world.barrier();
        failing = false;  // the cause is gone
        writer.start(2, part.content);
        EXPECT_EQ(writer.finish().value().step, 2);
      });
      EXPECT_EQ(told, 3) << name_of(stage);
      for (const char* step : {"/step-1", "/step-2"}) expect_whole(Checkpoint(run + step));
    }
}

TEST(CheckpointWriter, DestroyedWhileWritingItPublishesNothing) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  on_ranks(2, [&](Communicator& world) {
    write(run, 1, world);
    const Part part(2, world);
    {
      CheckpointWriter writer({.run = run}, world, Stream());
      writer.start(2, part.content);
    }
    world.barrier();
    EXPECT_FALSE(fs::exists(run + "/step-2"));
    world.barrier();
    write(run, 3, world);
  });
  EXPECT_EQ(latest_of(run), "step-3");
  recover_checkpoints(run);
  EXPECT_EQ(names_in(run), (std::vector<std::string>{"latest", "step-1", "step-3"}));
}

/// Runs `body` in another process; returns its exit status.
int in_a_child(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

TEST(CheckpointWriter, ACrashAtAnyStageKeepsEveryPublishedCheckpointComplete) {
  for (const std::int64_t step : {3, 2})  // a new checkpoint, and one that replaces another
    for (const CheckpointStage stage : stages)
      for (const int rank : {0, 1}) {
        if (on_rank_zero_only(stage) && rank != 0) continue;
        const TemporaryFolder folder;
        const std::string run = folder / "run";
        on_ranks(2, [&](Communicator& world) {
          for (const std::int64_t before : {1, 2}) write(run, before, world);
        });
        const int exit = in_a_child([&] {
          on_ranks(2, [&](Communicator& world) {
            const Part part(step, world);
            CheckpointWriter writer({.run = run,
                                     .retention = {.last = 1},
                                     .hook =
                                         [&](CheckpointStage at, const std::string&) {
                                           if (at == stage && world.rank() == rank) _exit(9);
                                         }},
                                    world, Stream());
            writer.start(step, part.content);
            writer.finish();
          });
        });
        EXPECT_EQ(exit, 9) << name_of(stage);
        for (int again = 0; again < 2; ++again) {
          const std::vector<std::int64_t> steps = published_steps(run);
          EXPECT_GE(steps.size(), 2u) << name_of(stage);  // old checkpoints are removed last
          for (const std::int64_t there : steps) expect_whole(Checkpoint(run + "/" + step_folder(there)));
          expect_whole(Checkpoint(run));  // the one that `latest` points to
          EXPECT_EQ(steps.front() == 3, step == 3 && stage >= CheckpointStage::latest) << name_of(stage);
          recover_checkpoints(run);
        }
        for (const std::string& name : names_in(run)) EXPECT_TRUE(name == "latest" || step_of_folder(name)) << name;
        on_ranks(2, [&](Communicator& world) { write(run, step, world); });
        EXPECT_EQ(latest_of(run), step_folder(step));
        expect_whole(Checkpoint(run));
      }
}

TEST(CheckpointFolders, AnInterruptedExchangeIsReverted) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  on_ranks(1, [&](Communicator& world) { write(run, 4, world); });
  fs::rename(run + "/step-4", run + "/step-4.old");  // as on a file system that cannot exchange
  for (const char* left : {"/step-4.tmp", "/step-3.gone", "/step-2.old"}) fs::create_directories(run + left);
  fs::create_directories(run + "/step-2");
  fs::create_directories(run + "/notes.old");
  recover_checkpoints(run);
  EXPECT_EQ(names_in(run), (std::vector<std::string>{"latest", "notes.old", "step-2", "step-4"}));
  expect_whole(Checkpoint(run));
}

TEST(CheckpointFolders, WithoutALockOnlyTheStagesOfProcessesThatAreGoneAreRemoved) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  const auto stage = [&](const std::string& name) {
    fs::create_directories(run + "/" + name);
    return run + "/" + name + "/" + std::string(writer_mark);
  };
  const TemporaryFile live(stage("step-1.tmp"));
  // A process of this host that has ended: a child wrote the mark.
  const std::string of_child = stage("step-2.tmp");
  const pid_t child = ::fork();
  if (child == 0) {
    new TemporaryFile(of_child);  // never destroyed, as after SIGKILL
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  // Another host's, and one that says nothing.
  std::string name = fs::path(live.path()).filename();
  name.replace(name.find(".tmp-") + 5, name.find('-', name.find(".tmp-") + 5) - name.find(".tmp-") - 5, "elsewhere");
  std::ofstream(fs::path(stage("step-3.tmp")).parent_path() / name) << "";
  stage("step-4.tmp");
  recover_checkpoints(run, false);
  EXPECT_EQ(names_in(run), (std::vector<std::string>{"step-1.tmp", "step-3.tmp", "step-4.tmp"}));
  recover_checkpoints(run, true);
  EXPECT_EQ(names_in(run), std::vector<std::string>{});
}

TEST(CheckpointFolders, AStageHasItsWritersMarkUntilItIsPublished) {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  int marked = 0;
  on_ranks(2, [&](Communicator& world) {
    const Part part(1, world);
    CheckpointWriter writer({.run = run,
                             .hook =
                                 [&](CheckpointStage stage, const std::string&) {
                                   if (stage != CheckpointStage::index) return;
                                   for (const std::string& name : names_in(run + "/step-1.tmp"))
                                     marked += name.starts_with("writer.tmp-");
                                 }},
                            world, Stream());
    writer.start(1, part.content);
    writer.finish();
  });
  EXPECT_EQ(marked, 1);
  EXPECT_EQ(names_in(run + "/step-1"),
            (std::vector<std::string>{"index.h5", "manifest.json", "shard-00000.h5", "shard-00001.h5"}));
}

TEST(CheckpointFolders, TheNewestAndEveryNthAreKept) {
  struct Row {
    Retention retention;
    std::vector<std::int64_t> kept;
  };
  const Row table[] = {{{.last = 0}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
                       {{.last = 1}, {9, 8, 7}},
                       {{.last = 3}, {9, 8, 7, 6, 5}},
                       {{.last = 99}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
                       {{.last = 2, .every = 3}, {9, 8, 7, 6, 3, 0}}};
  for (const Row& row : table) {
    const TemporaryFolder folder;
    for (int step = 0; step < 10; ++step) fs::create_directories(folder / fmt::format("step-{}/inside", step));
    fs::create_directories(folder / "step-07");
    EXPECT_TRUE(retire_checkpoints(folder / "", 7, row.retention).empty());  // 8 and 9 are of another run
    EXPECT_EQ(published_steps(folder / ""), row.kept) << row.retention.last << " " << row.retention.every;
    EXPECT_TRUE(fs::exists(folder / "step-07"));
    EXPECT_EQ(folder.count(), row.kept.size() + 1);
  }
}

TEST(HostSnapshot, KeepsTheCopiedBytes) {
  std::vector<std::byte> a(1000), b(1), c(70);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<std::byte>(i * 7);
  b[0] = std::byte{3};
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<std::byte>(i + 100);
  HostSnapshot slabs(Stream(), 64);
  for (int again = 0; again < 2; ++again) {
    const HostSnapshot::Source sources[] = {{a.data(), 1000}, {nullptr, 0}, {b.data(), 1}, {c.data(), 70}};
    slabs.take(sources);
    EXPECT_EQ(slabs.bytes(), 17 * 64);
    const auto found = [&](std::size_t source, std::size_t begin, std::size_t count) {
      std::vector<std::byte> out(count);
      slabs.read(source, static_cast<std::int64_t>(begin), out);
      return out;
    };
    EXPECT_EQ(found(0, 0, 1000), a);
    EXPECT_EQ(found(0, 63, 66), std::vector<std::byte>(a.begin() + 63, a.begin() + 129));
    EXPECT_EQ(found(2, 0, 1), b);
    EXPECT_EQ(found(3, 0, 70), c);
    a[500] = std::byte{0};
  }
}

}  // namespace
}  // namespace causeway::test
