#include "io/file/temporary_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <functional>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway {
namespace {

using testing::TemporaryFolder;
namespace fs = std::filesystem;

std::vector<std::string> names_in(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder / "")) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

/// Runs `work` in a new process; `work` must end it by a signal.
pid_t process(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  const rlimit no_core{};
  ::setrlimit(RLIMIT_CORE, &no_core);
  work();
  ::_exit(0);
}

/// The signal that ended a process.
int signal_that_ended(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/// Leaves the file of a process that was killed; returns its name.
std::string leave_behind(const TemporaryFolder& folder, const std::string& target) {
  signal_that_ended(process([&] {
    const AtomicFile file(folder / target);
    ::raise(SIGKILL);
  }));
  for (const std::string& name : names_in(folder))
    if (name.starts_with(target + ".tmp-")) return name;
  ADD_FAILURE() << "no file of " << target;
  return "";
}

/// `name` with the word number `word` after ".tmp-" replaced: host, process, space, start, attempt.
std::string with_word(const std::string& name, int word, const std::string& text) {
  std::size_t begin = name.rfind(".tmp-") + 5;
  for (; word > 0; --word) begin = name.find('-', begin) + 1;
  return name.substr(0, begin) + text + name.substr(std::min(name.find('-', begin), name.size()));
}

TEST(TemporaryFile, AProcessThatASignalEndsRemovesItsOwn) {
  const TemporaryFolder folder;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGPIPE, SIGALRM, SIGUSR1, SIGRTMIN + 3}) {
    const pid_t child = process([&] {
      remove_temporary_files_at_signals();
      const AtomicFile one(folder / "one"), two(folder / "two");
      AtomicFile three(folder / "three");
      three.commit();
      ::raise(signal);
    });
    EXPECT_EQ(signal_that_ended(child), signal);
    EXPECT_EQ(names_in(folder), std::vector<std::string>{"three"}) << "signal " << signal;
  }
}

TEST(TemporaryFile, ASignalThatIsIgnoredStaysIgnored) {
  const TemporaryFolder folder;
  const pid_t child = process([&] {
    ::signal(SIGHUP, SIG_IGN);
    remove_temporary_files_at_signals();
    AtomicFile file(folder / "one");
    ::raise(SIGHUP);
    file.commit();
  });
  EXPECT_EQ(signal_that_ended(child), 0);
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"one"});
}

TEST(TemporaryFile, TheNextWriterRemovesThoseOfProcessesThatAreGone) {
  const TemporaryFolder folder;
  const std::string left = leave_behind(folder, "data.h5");
  write_text(folder / "data.h5x", "another target");
  write_text(folder / "data", "another target");
  EXPECT_EQ(names_in(folder), (std::vector<std::string>{"data", left, "data.h5x"}));
  write_text(folder / "data.h5", "this target");
  EXPECT_EQ(names_in(folder), (std::vector<std::string>{"data", "data.h5", "data.h5x"}));
}

TEST(TemporaryFile, OneOfAProcessThatWaitsForItsParentIsRemoved) {
  const TemporaryFolder folder;
  const pid_t child = process([&] {
    const AtomicFile file(folder / "data.h5");
    ::raise(SIGKILL);
  });
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  write_text(folder / "data.h5", "");
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"data.h5"});
  signal_that_ended(child);
}

TEST(TemporaryFile, ThoseOfLiveProcessesStay) {
  const TemporaryFolder folder;
  int created[2], done[2];
  ASSERT_EQ(::pipe(created), 0);
  ASSERT_EQ(::pipe(done), 0);
  const pid_t child = process([&] {
    AtomicFile file(folder / "data.h5");
    char byte = 0;
    if (::write(created[1], &byte, 1) != 1 || ::read(done[0], &byte, 1) != 1) ::raise(SIGKILL);
    file.commit();
  });
  char byte = 0;
  ASSERT_EQ(::read(created[0], &byte, 1), 1);
  {
    const AtomicFile own(folder / "data.h5"), another(folder / "data.h5");
    EXPECT_EQ(folder.count(), 3u);
  }
  ASSERT_EQ(::write(done[1], &byte, 1), 1);
  EXPECT_EQ(signal_that_ended(child), 0);
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"data.h5"});
}

TEST(TemporaryFile, OnlyThoseThatAreKnownToBeGoneAreRemoved) {
  const TemporaryFolder folder;
  const std::string left = leave_behind(folder, "x");
  fs::remove(folder / left);
  const std::string self = std::to_string(::getpid());
  const auto stays = [&](const std::string& name, std::time_t changed = std::time(nullptr)) {
    folder.write(name, "");
    const timespec times[2] = {{changed, 0}, {changed, 0}};
    ::utimensat(AT_FDCWD, (folder / name).c_str(), times, 0);
    { const AtomicFile file(folder / "x"); }
    return fs::remove(folder / name);
  };
  EXPECT_FALSE(stays(left));
  EXPECT_FALSE(stays(with_word(left, 1, self))) << "this process's number, used before";
  EXPECT_FALSE(stays(with_word(left, 2, "0badcafe"), 1000)) << "older than this start of the host";
  EXPECT_TRUE(stays(with_word(left, 2, "0badcafe"))) << "another container";
  EXPECT_TRUE(stays(with_word(left, 0, "elsewhere")));
  EXPECT_TRUE(stays(with_word(left, 0, "elsewhere"), 1000));
  for (const char* name : {"x.tmp-4242", "x.tmp-4242-0", "x.tmp-", "x.tmp-a-b-c-d-e", "x.tmp", "x.tmp-a-1-2-3-4-5"})
    EXPECT_TRUE(stays(name)) << name;
}

TEST(TemporaryFile, NamesOfAnyLengthHaveOneThatFits) {
  const TemporaryFolder folder;
  for (const std::size_t length : {1u, 100u, 155u, 156u, 200u, 250u, 255u}) {
    std::string name(length, 'n'), other = name;
    other.back() = 'o';
    write_text(folder / name, "text");
    EXPECT_EQ(testing::bytes_of(folder / name), "text") << length;
    signal_that_ended(process([&] {
      const AtomicFile one(folder / name), two(folder / other);
      ::raise(SIGKILL);
    }));
    EXPECT_EQ(folder.count(), 3u) << length;
    write_text(folder / name, "");
    EXPECT_EQ(folder.count(), 2u) << length;
    write_text(folder / other, "");
    EXPECT_EQ(folder.count(), 2u) << length;
    fs::remove(folder / name);
    fs::remove(folder / other);
  }
  std::string letters;
  for (int i = 0; i < 127; ++i) letters += "\xc3\xbc";
  const std::string beside = name_beside(letters, ".tmp-x", 100);
  EXPECT_LE(beside.size(), 255u);
  EXPECT_EQ(beside.find('~') % 2, 0u) << "cut within a character";
}

TEST(AtomicFile, MayRefuseToReplaceAFile) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      return error.what();
    }
    return "";
  };
  const std::string path = folder.write("kept", "text");
  EXPECT_EQ(refusal([&] { AtomicFile(path, Existing::refused); }), path + ": exists; --force replaces it");
  {
    AtomicFile one(folder / "new", Existing::refused), two(folder / "new", Existing::refused);
    one.commit();
    EXPECT_NE(refusal([&] { two.commit(); }).find("new: exists, and was made since"), std::string::npos);
  }
  fs::create_symlink(folder / "absent", folder / "broken");
  EXPECT_NE(refusal([&] { AtomicFile(folder / "broken", Existing::refused); }).find("exists; --force"),
            std::string::npos);
  EXPECT_EQ(names_in(folder), (std::vector<std::string>{"broken", "kept", "new"}));
}

}  // namespace
}  // namespace causeway
