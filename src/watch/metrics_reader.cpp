#include "src/watch/metrics_reader.hpp"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

namespace causeway {

void MetricsReader::restart() {
  committed_ = History();
  last_.reset();
  last_text_.clear();
  offset_ = 0;
  skipping_ = false;
}

History MetricsReader::history() const {
  History all = committed_;
  if (last_) all.add(*last_);
  return all;
}

bool MetricsReader::add(std::string_view line, std::int64_t offset) {
  const std::optional<StepRecord> record = StepRecord::parse(line);
  if (offset == offset_ && last_) {  // the last line of the previous poll
    if (line == last_text_) return true;
    if (!record) return true;  // read while it is being rewritten
    if (record->step != last_->step) return false;
  } else if (last_) {
    committed_.add(*last_);
  }
  last_ = record;
  last_text_ = line;
  offset_ = offset;
  return true;
}

void MetricsReader::skip_to(std::int64_t offset, bool in_a_line) {
  if (last_) committed_.add(*last_);
  last_.reset();
  last_text_.clear();
  offset_ = offset;
  skipping_ = in_a_line;
}

void MetricsReader::poll(double seconds) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point started = Clock::now();
  std::optional<RegularFile> file = RegularFile::open(path_);
  if (!file) {
    restart();
    before_.reset();
    modified_.reset();
    unread_ = 0;
    return;
  }
  const auto last_end = offset_ + static_cast<std::int64_t>(last_text_.size());
  if (!before_ || !file->same_as(*before_) || file->bytes() < last_end) {
    restart();
    if (file->bytes() > most_read) {
      offset_ = file->bytes() - most_read;
      skipping_ = true;
    }
  }
  modified_ = file->modified();

  std::vector<char> block(std::size_t{1} << 20);
  std::string rest;              // of a line whose end has not been read yet
  std::int64_t start = offset_;  // of that line
  std::int64_t at = offset_;     // read up to here
  bool restarted = false;
  do {
    const std::size_t got = file->read(at, block);
    if (got == 0) break;
    at += static_cast<std::int64_t>(got);
    rest.append(block.data(), got);
    std::size_t from = 0;
    for (std::size_t end = 0; (end = rest.find('\n', from)) != std::string::npos; from = end + 1) {
      const std::string_view line = std::string_view(rest).substr(from, end - from);
      const std::int64_t next = start + static_cast<std::int64_t>(line.size()) + 1;
      if (skipping_ || static_cast<std::int64_t>(line.size()) > longest_line) {
        skip_to(next, false);
      } else if (!add(line, start)) {
        if (restarted) break;  // the file changes faster than it can be read
        restarted = true;
        restart();
        at = 0;
        rest.clear();
        from = start = 0;
        break;
      }
      start = next;
    }
    rest.erase(0, from);
    if (static_cast<std::int64_t>(rest.size()) > longest_line) {  // its end may be far away or never come
      start += static_cast<std::int64_t>(rest.size());
      rest.clear();
      skip_to(start, true);
    }
  } while (std::chrono::duration<double>(Clock::now() - started).count() < seconds);
  unread_ = std::max<std::int64_t>(0, file->bytes() - at);
  before_ = std::move(file);
}

}  // namespace causeway
