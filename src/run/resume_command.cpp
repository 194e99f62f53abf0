#include "src/run/resume_command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "src/output/safe_text.hpp"
#include "src/run/regular_file.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// Whether every character of `word` can be seen and pasted.
bool visible(std::string_view word) {
  while (!word.empty()) {
    const std::string_view character = word.substr(0, first_character(word).bytes);
    if (one_line(character) != character) return false;
    word.remove_prefix(character.size());
  }
  return true;
}

/// `word` for the inside of $'…', in which every character that is not safe to print is written as its bytes.
std::string escaped(std::string_view word) {
  std::string text;
  while (!word.empty()) {
    const std::string_view character = word.substr(0, first_character(word).bytes);
    word.remove_prefix(character.size());
    if (one_line(character) != character)
      for (const char byte : character) text += fmt::format("\\{:03o}", static_cast<unsigned char>(byte));
    else
      text += character == "'" || character == "\\" ? fmt::format("\\{}", character) : std::string(character);
  }
  return text;
}

/// The words of a process's command line. Empty where /proc does not show it.
std::vector<std::string> words_of_process(const std::string& process) {
  // Files of /proc have no size until they are read.
  const std::optional<RegularFile> file = RegularFile::open(fmt::format("/proc/{}/cmdline", process));
  if (!file) return {};
  constexpr std::int64_t longest = std::int64_t{1} << 20;
  const std::string text = file->text(0, longest);
  std::vector<std::string> words;
  for (std::size_t from = 0, end = 0; from < text.size(); from = end + 1) {
    end = std::min(text.find('\0', from), text.size());
    words.push_back(text.substr(from, end - from));
  }
  return words;
}

/// The launcher as it was started, where it is the parent of this process; else as it usually is.
std::vector<std::string> launcher(int ranks) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const std::string parent = std::to_string(::getppid());
  const std::vector<std::string> own = words_of_process("self");
  std::error_code error;
  const std::string folder = fs::read_symlink(fmt::format("/proc/{}/cwd", parent), error).string();
  if (!own.empty())
    if (std::vector<std::string> words = launcher_prefix(words_of_process(parent), own.front(), folder); !words.empty())
      return words;
  if (variable("OMPI_COMM_WORLD_SIZE").empty() && !variable("SLURM_STEP_ID").empty()) {
    std::vector<std::string> words = {"srun"};
    if (const std::string type = variable("SLURM_MPI_TYPE"); !type.empty()) words.push_back("--mpi=" + type);
    words.push_back(fmt::format("--ntasks={}", ranks));
    if (const std::string cores = variable("SLURM_CPUS_PER_TASK"); !cores.empty())
      words.push_back("--cpus-per-task=" + cores);
    return words;
  }
  return {"mpirun", "-n", std::to_string(ranks)};
}

/// This program: by its name where the shell finds it so, else by its path.
std::string program() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  if (error) return "causeway";
  const char* variable = std::getenv("PATH");
  std::string_view folders = variable == nullptr ? "" : variable;
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    folders.remove_prefix(std::min(folder.size() + 1, folders.size()));
    const fs::path candidate = fs::path(folder) / path.filename();
    if (!fs::path(folder).is_absolute() || ::access(candidate.c_str(), X_OK) != 0) continue;
    return fs::equivalent(candidate, path, error) ? path.filename().string() : path.string();
  }
  return path.string();
}

}  // namespace

std::string shell_quoted(std::string_view word) {
  constexpr std::string_view harmless = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-";
  if (!word.empty() && word.front() != '=' && word.find_first_not_of(harmless) == std::string_view::npos)
    return std::string(word);
  if (!visible(word)) return fmt::format("$'{}'", escaped(word));
  std::string quoted = "'";
  for (const char character : word) {
    if (character == '\'')
      quoted += "'\\''";
    else
      quoted += character;
  }
  return quoted + "'";
}

std::vector<std::string> launcher_prefix(std::span<const std::string> command, const std::string& program,
                                         const std::string& folder) {
  constexpr std::string_view launchers[] = {"mpirun", "mpiexec", "orterun", "prterun", "mpiexec.hydra", "mpirun.mpich"};
  constexpr std::string_view names_a_file[] = {"hostfile", "machinefile", "default-hostfile", "rankfile", "rf", "f"};
  if (command.empty()) return {};
  const std::string name = fs::path(command.front()).filename().string();
  if (std::ranges::find(launchers, name) == std::end(launchers)) return {};
  const auto end = std::ranges::find(command.begin() + 1, command.end(), program);
  if (end == command.end() || std::ranges::find(command, ":") != command.end()) return {};
  std::vector<std::string> words(command.begin(), end);
  const auto make_absolute = [&](std::string& path) {
    if (!path.empty() && !fs::path(path).is_absolute() && !folder.empty()) path = (fs::path(folder) / path).string();
  };
  if (words.front().find('/') != std::string::npos) make_absolute(words.front());
  for (std::size_t i = 1; i + 1 < words.size(); ++i) {
    const std::string option = words[i].substr(std::min(words[i].find_first_not_of('-'), words[i].size()));
    if (words[i].starts_with("-") && std::ranges::find(names_a_file, option) != std::end(names_a_file))
      make_absolute(words[i + 1]);
  }
  return words;
}

std::string resume_command(const std::string& run, int ranks, bool processes) {
  std::vector<std::string> words = processes ? launcher(ranks) : std::vector<std::string>();
  std::error_code error;
  fs::path config = fs::absolute(fs::path(run) / "config.ini", error).lexically_normal();
  if (error) config = fs::path(run) / "config.ini";
  for (std::string word : {program(), std::string("train"), std::string("--config"), config.string(),
                           std::string("--resume"), std::string("auto")})
    words.push_back(std::move(word));
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + shell_quoted(word);
  return line;
}

}  // namespace causeway
