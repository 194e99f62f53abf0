#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/health/rank_progress.hpp"

namespace causeway {

/// A rank's line of ranks.txt.
struct RankLine {
  int rank = 0;
  std::string host;
  std::int64_t pid = 0;
  double heard = 0;  ///< when the line was written, in seconds since 1970
  RankProgress::View view;
};

/// ranks.txt: a line that names the columns, then a line of `rank_line_bytes` a rank. Every field but the last is
/// followed by blanks, none is empty ("-": nothing), so that one can read it with cat, awk, or read_rank_board.
inline constexpr std::int64_t rank_line_bytes = 192;
std::string rank_board_header();
std::string rank_line_text(const RankLine& line);
/// Nothing for a line that is not whole, or not one of these: the file may be anybody's.
std::optional<RankLine> parse_rank_line(std::string_view line);
/// [rank]: nothing where a rank has not written its line yet, or it cannot be understood. Empty where `text` is no
/// board.
std::vector<std::optional<RankLine>> parse_rank_board(std::string_view text);
/// The same of a file; empty where there is none that can be read. Reads at most 65,536 ranks' lines.
std::vector<std::optional<RankLine>> read_rank_board(const std::string& path);

/// One rank's place in ranks.txt. Every rank writes its own line, over whatever file system they share.
class RankBoard {
 public:
  /// The first rank makes the file anew before any rank writes: Error(io) where it cannot.
  static void create(const std::string& path, int ranks);

  explicit RankBoard(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  /// Writes the line where it belongs; nothing where the file has gone. Error(io) where that fails.
  void write(const RankLine& line) const;

 private:
  std::string path_;
};

}  // namespace causeway
