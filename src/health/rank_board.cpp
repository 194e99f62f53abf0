#include "src/health/rank_board.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <span>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"
#include "src/run/regular_file.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr std::size_t most_ranks = 65536;
constexpr std::size_t host_width = 24;
constexpr std::string_view no_value = "-";

struct Column {
  std::string_view name;
  int width;
  char alignment;  ///< '<' or '>', as fmt has it
};
constexpr std::array<Column, 17> columns{{{"rank", 5, '>'},
                                          {"host", host_width, '<'},
                                          {"pid", 8, '>'},
                                          {"step", 9, '>'},
                                          {"phase", 10, '<'},
                                          {"layer", 5, '>'},
                                          {"moves", 6, '>'},
                                          {"still_s", 8, '>'},
                                          {"heard", 24, '<'},
                                          {"writing", 8, '<'},
                                          {"writing_s", 9, '>'},
                                          {"system", 6, '<'},
                                          {"step_s", 9, '>'},
                                          {"compute_s", 9, '>'},
                                          {"exposed_s", 9, '>'},
                                          {"tokens", 10, '>'},
                                          {"memory_bytes", 14, '>'}}};

bool visible(char c) { return c > ' ' && c <= '~'; }

/// One word of at most `host_width` characters.
std::string host_word(std::string host) {
  std::ranges::replace_if(
      host, [](char c) { return !visible(c); }, '?');
  return host.empty() ? std::string(no_value) : host.substr(0, host_width);
}

/// Pads or cuts `text` to the length of a line.
std::string to_line(std::string text) {
  text.resize(rank_line_bytes - 1, ' ');
  return text + '\n';
}

/// A line with one value in each column.
std::string to_line(const std::array<std::string, columns.size()>& values) {
  std::string text;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i > 0) text += ' ';
    text += columns[i].alignment == '<' ? fmt::format("{:<{}}", values[i], columns[i].width)
                                        : fmt::format("{:>{}}", values[i], columns[i].width);
  }
  return to_line(std::move(text));
}

std::string seconds_text(double seconds, int digits) {
  return fmt::format("{:.{}f}", std::clamp(std::isfinite(seconds) ? seconds : 0, 0.0, 9'999'999.0),
                     seconds < 1e4 ? digits : 0);
}

template <class T>
bool read_number(std::string_view word, T& into) {
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), into);
  return error == std::errc() && stop == word.data() + word.size();
}

bool read_seconds(std::string_view word, double& into) {
  return read_number(word, into) && std::isfinite(into) && into >= 0;
}

bool read_count(std::string_view word, std::int64_t& into) { return read_number(word, into) && into >= 0; }

bool read_time(std::string_view word, double& into) {
  // 2026-11-22T07:19:33.120Z
  if (word.size() != 24 || word[19] != '.' || word[23] != 'Z') return false;
  std::tm calendar{};
  const std::string date(word.substr(0, 19));
  const char* const end = ::strptime(date.c_str(), "%Y-%m-%dT%H:%M:%S", &calendar);
  int milliseconds = 0;
  if (end == nullptr || *end != '\0' || !read_number(word.substr(20, 3), milliseconds) || milliseconds < 0)
    return false;
  into = static_cast<double>(::timegm(&calendar)) + milliseconds / 1e3;
  return true;
}

/// Which threads of a rank are inside the system, by the values of both flags.
constexpr std::array<std::string_view, 4> system_names = {no_value, "train", "write", "both"};

std::string_view system_name(const RankProgress::Snapshot& progress) {
  return system_names[(progress.in_system ? 1u : 0u) + (progress.writing_in_system ? 2u : 0u)];
}

bool read_system(std::string_view word, RankProgress::Snapshot& into) {
  const auto found = std::ranges::find(system_names, word) - system_names.begin();
  into.in_system = found % 2 == 1;
  into.writing_in_system = found >= 2;
  return found < std::ssize(system_names);
}

bool read_stage(std::string_view word, CheckpointStage& into) {
  if (word == no_value) word = name_of(CheckpointStage::idle);
  for (int i = 0; i <= static_cast<int>(CheckpointStage::idle); ++i)
    if (word == name_of(static_cast<CheckpointStage>(i))) {
      into = static_cast<CheckpointStage>(i);
      return true;
    }
  return false;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; (at = line.find_first_not_of(' ', at)) != std::string_view::npos;) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

}  // namespace

std::string rank_board_header() {
  std::array<std::string, columns.size()> names;
  std::ranges::transform(columns, names.begin(), [](const Column& column) { return std::string(column.name); });
  return to_line(names);
}

std::string rank_line_text(const RankLine& line) {
  const auto& [position, idle_s, writing, writing_idle_s, figures, in_system, writing_in_system] = line.progress;
  const bool writes = writing != CheckpointStage::idle;
  const auto count = [](std::int64_t value) { return fmt::format("{}", std::max<std::int64_t>(0, value)); };
  return to_line(std::array{
      count(line.rank), host_word(line.host), count(line.pid), count(position.step),
      std::string(name_of(position.phase)), position.layer < 0 ? std::string(no_value) : count(position.layer),
      count(position.heartbeats), seconds_text(idle_s, 1), utc_text(line.written_at),
      std::string(writes ? name_of(writing) : no_value),
      writes ? seconds_text(writing_idle_s, 1) : std::string(no_value), std::string(system_name(line.progress)),
      seconds_text(figures.step_s, 4), seconds_text(figures.compute_s, 4), seconds_text(figures.comm_exposed_s, 4),
      count(figures.tokens), count(figures.memory_bytes)});
}

std::optional<RankLine> parse_rank_line(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (std::ssize(text) != rank_line_bytes - 1 ||
      !std::ranges::all_of(text, [](char c) { return c == ' ' || visible(c); }))
    return std::nullopt;
  const std::vector<std::string_view> words = words_of(text);
  if (words.size() != columns.size()) return std::nullopt;
  RankLine line;
  auto& [position, idle_s, writing, writing_idle_s, figures, in_system, writing_in_system] = line.progress;
  const std::optional<Phase> phase = phase_named(words[4]);
  const bool good = read_number(words[0], line.rank) && line.rank >= 0 && read_count(words[2], line.pid) &&
                    read_count(words[3], position.step) && phase &&
                    (words[5] == no_value || read_count(words[5], position.layer)) &&
                    read_count(words[6], position.heartbeats) && read_seconds(words[7], idle_s) &&
                    read_time(words[8], line.written_at) && read_stage(words[9], writing) &&
                    (words[10] == no_value || read_seconds(words[10], writing_idle_s)) &&
                    read_system(words[11], line.progress) && read_seconds(words[12], figures.step_s) &&
                    read_seconds(words[13], figures.compute_s) && read_seconds(words[14], figures.comm_exposed_s) &&
                    read_count(words[15], figures.tokens) && read_count(words[16], figures.memory_bytes);
  if (!good) return std::nullopt;
  line.host = words[1];
  position.phase = *phase;
  return line;
}

std::vector<std::optional<RankLine>> parse_rank_board(std::string_view text) {
  std::vector<std::optional<RankLine>> lines;
  if (!text.starts_with(rank_board_header())) return lines;
  while (!text.empty() && lines.size() < most_ranks) {
    text.remove_prefix(std::min<std::size_t>(rank_line_bytes, text.size()));
    if (text.empty()) break;
    std::optional<RankLine> line = parse_rank_line(text.substr(0, rank_line_bytes));
    if (line && line->rank != static_cast<int>(lines.size())) line.reset();
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::optional<RankLine>> read_rank_board(const std::string& path) {
  const std::optional<RegularFile> file = RegularFile::open(path);
  if (!file) return {};
  const auto most = static_cast<std::int64_t>(most_ranks + 1) * rank_line_bytes;
  return parse_rank_board(file->text(0, std::min(file->bytes(), most)));
}

void RankBoard::create(const std::string& path, int ranks) {
  AtomicFile file(path);
  {
    const Descriptor out(::open(file.temporary().c_str(), O_WRONLY | O_CLOEXEC));
    std::string text = rank_board_header();
    for (int rank = 0; rank < ranks; ++rank) text += to_line(fmt::format("{:>5} {}", rank, no_value));
    if (!out || !write_all(out.get(), text)) fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  }
  file.commit();
}

void RankBoard::write(const RankLine& line) const {
  const std::string text = rank_line_text(line);
  // The file is opened and closed for every line, because NFS shows written data to other machines when the file is
  // closed. It is never created here: the user may have removed the run directory.
  Descriptor file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return;
  const off_t offset = (std::int64_t{line.rank} + 1) * rank_line_bytes;
  struct stat facts {};
  if (file && ::fstat(file.get(), &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size < offset)
    return;  // cut short: no hole of zeros
  const bool written = file && write_all_at(file.get(), text, offset) && ::close(file.release()) == 0;
  if (!written) fail(ExitCode::io, "{}: cannot write: {}", path_, std::strerror(errno));
}

}  // namespace causeway
