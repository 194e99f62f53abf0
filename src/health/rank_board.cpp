#include "src/health/rank_board.hpp"
#include "src/run/utc_text.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>

#include "io/file/atomic_file.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"

namespace causeway {
namespace {

constexpr std::size_t most_ranks = 65536;
constexpr std::size_t host_width = 24;
constexpr std::string_view nothing = "-";

struct DescriptorTraits {
  using type = int;
  static type null() { return -1; }
  static void close(type descriptor) noexcept { ::close(descriptor); }
};
using Descriptor = Handle<DescriptorTraits>;

bool visible(char c) { return c > ' ' && c <= '~'; }

/// One word of at most `host_width` characters.
std::string host_word(std::string host) {
  std::ranges::replace_if(
      host, [](char c) { return !visible(c); }, '?');
  return host.empty() ? std::string(nothing) : host.substr(0, host_width);
}

/// A line's text without the blanks and the end that bring it to its length.
std::string columns(std::string_view rank, std::string_view host, std::string_view pid, std::string_view step,
                    std::string_view phase, std::string_view layer, std::string_view moves, std::string_view still,
                    std::string_view heard, std::string_view writing, std::string_view writing_still,
                    std::string_view step_s, std::string_view compute_s, std::string_view exposed_s,
                    std::string_view tokens, std::string_view memory) {
  return fmt::format(
      "{:>5} {:<24} {:>8} {:>9} {:<10} {:>5} {:>6} {:>8} {:<24} {:<8} {:>9} {:>9} {:>9} {:>9} {:>10} {:>14}", rank,
      host, pid, step, phase, layer, moves, still, heard, writing, writing_still, step_s, compute_s, exposed_s, tokens,
      memory);
}

std::string to_line(std::string text) {
  text.resize(rank_line_bytes - 1, ' ');
  return text + '\n';
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

bool read_stage(std::string_view word, CheckpointStage& into) {
  if (word == nothing) word = name_of(CheckpointStage::idle);
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
  return to_line(columns("rank", "host", "pid", "step", "phase", "layer", "moves", "still_s", "heard", "writing",
                         "writing_s", "step_s", "compute_s", "exposed_s", "tokens", "memory_bytes"));
}

std::string rank_line_text(const RankLine& line) {
  const auto& [place, still_s, writing, writing_still_s, figures] = line.view;
  const bool writes = writing != CheckpointStage::idle;
  const auto count = [](std::int64_t value) { return fmt::format("{}", std::max<std::int64_t>(0, value)); };
  return to_line(columns(count(line.rank), host_word(line.host), count(line.pid), count(place.step),
                         name_of(place.phase), place.layer < 0 ? std::string(nothing) : count(place.layer),
                         count(place.moves), seconds_text(still_s, 1), utc_text(line.heard),
                         writes ? name_of(writing) : nothing,
                         writes ? seconds_text(writing_still_s, 1) : std::string(nothing),
                         seconds_text(figures.step_s, 4), seconds_text(figures.compute_s, 4),
                         seconds_text(figures.comm_exposed_s, 4), count(figures.tokens), count(figures.memory_bytes)));
}

std::optional<RankLine> parse_rank_line(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (std::ssize(text) != rank_line_bytes - 1 ||
      !std::ranges::all_of(text, [](char c) { return c == ' ' || visible(c); }))
    return std::nullopt;
  const std::vector<std::string_view> words = words_of(text);
  if (words.size() != 16) return std::nullopt;
  RankLine line;
  RankProgress::View& view = line.view;
  StepFigures& figures = view.figures;
  const std::optional<Phase> phase = phase_named(words[4]);
  const auto count_or_nothing = [](std::string_view word, std::int64_t& into) {
    return word == nothing || read_count(word, into);
  };
  const bool good = read_number(words[0], line.rank) && line.rank >= 0 && read_count(words[2], line.pid) &&
                    read_count(words[3], view.place.step) && phase && count_or_nothing(words[5], view.place.layer) &&
                    read_count(words[6], view.place.moves) && read_seconds(words[7], view.still_s) &&
                    read_time(words[8], line.heard) && read_stage(words[9], view.writing) &&
                    (words[10] == nothing || read_seconds(words[10], view.writing_still_s)) &&
                    read_seconds(words[11], figures.step_s) && read_seconds(words[12], figures.compute_s) &&
                    read_seconds(words[13], figures.comm_exposed_s) && read_count(words[14], figures.tokens) &&
                    read_count(words[15], figures.memory_bytes);
  if (!good) return std::nullopt;
  line.host = words[1];
  view.place.phase = *phase;
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
  // What is no regular file might never end, or never begin.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  const auto most = static_cast<std::int64_t>(most_ranks + 1) * rank_line_bytes;
  std::string text(static_cast<std::size_t>(std::clamp<std::int64_t>(status.st_size, 0, most)), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t count = ::pread(file.get(), text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    have += static_cast<std::size_t>(count);
  }
  return parse_rank_board(std::string_view(text).substr(0, have));
}

void RankBoard::create(const std::string& path, int ranks) {
  AtomicFile file(path);
  {
    const Descriptor out(::open(file.temporary().c_str(), O_WRONLY | O_CLOEXEC));
    std::string text = rank_board_header();
    for (int rank = 0; rank < ranks; ++rank) text += to_line(fmt::format("{:>5} {}", rank, nothing));
    if (!out || ::write(out.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  }
  file.commit();
}

void RankBoard::write(const RankLine& line) const {
  const std::string text = rank_line_text(line);
  // Opened and closed for every line: that is when NFS shows other machines what was written. Never created here: the
  // folder may have been taken away.
  Descriptor file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return;
  const off_t offset = (std::int64_t{line.rank} + 1) * rank_line_bytes;
  const bool written = file &&
                       ::pwrite(file.get(), text.data(), text.size(), offset) == static_cast<ssize_t>(text.size()) &&
                       ::close(file.release()) == 0;
  if (!written) fail(ExitCode::io, "{}: cannot write: {}", path_, std::strerror(errno));
}

}  // namespace causeway
