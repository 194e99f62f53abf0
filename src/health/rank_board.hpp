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
  double written_at = 0;  ///< seconds since 1970
  RankProgress::Snapshot progress;
};

/// ranks.txt has a header line that names the columns, then one line of `rank_line_bytes` bytes for each rank. Columns
/// are separated by blanks and no field is empty ("-": no value), so that cat, awk and read_rank_board can read it.
inline constexpr std::int64_t rank_line_bytes = 192;
std::string rank_board_header();
std::string rank_line_text(const RankLine& line);
/// Returns no value for a line that is incomplete or has another format: the file is not trusted.
std::optional<RankLine> parse_rank_line(std::string_view line);
/// Element r is rank r's line; without a value where the rank has not written it yet, or it cannot be parsed. Empty
/// where `text` does not begin with the header.
std::vector<std::optional<RankLine>> parse_rank_board(std::string_view text);
/// The same for a file; empty if it cannot be read. Reads at most 65,536 ranks' lines.
std::vector<std::optional<RankLine>> read_rank_board(const std::string& path);

/// Writes one rank's line of ranks.txt. Every rank writes its own line; the ranks share the file through their file
/// system.
class RankBoard {
 public:
  /// Creates the file, replacing an older one. The first rank calls it before any rank writes. Throws Error(io).
  static void create(const std::string& path, int ranks);

  explicit RankBoard(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }
  /// Writes the line in place. Does nothing where the file no longer exists. Throws Error(io) where writing fails.
  void write(const RankLine& line) const;

 private:
  std::string path_;
};

}  // namespace causeway
