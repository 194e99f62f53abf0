#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/core/scan_direction.hpp"
#include "kernels/core/segments.hpp"

/// How a run of the selective scan is divided among blocks of threads. All of it is host code that reads the documents'
/// starts in host memory, so that it needs no kernel and no wait.
namespace causeway::cuda {

inline constexpr int most_pieces = 64;

/// The pieces of a run, the longest first: the device starts their blocks of threads in this order. A state enters a
/// piece at its near edge: its begin (left to right) or its end (right to left). A piece is *open* if its near edge is
/// within a document and within the run: then the state comes from the chunk sums (passes 1 and 2), so open edges are
/// at whole chunks. At other near edges a document begins (ends), and the state is zero.
struct RunPieces {
  std::int32_t begin[most_pieces], end[most_pieces];  ///< tokens
  std::uint8_t open[most_pieces];
  std::int32_t count = 0;
  bool any_open = false;
};

/// What is divided.
struct PieceRun {
  SegmentsView segments;
  std::int64_t channels, states;
  std::int64_t chunk_tokens;  ///< of pass 1
  ScanDirection direction;
};

/// What a form of the scan takes on an H200, in nanoseconds.
struct ScanCosts {
  double launches;  ///< for any run
  double element;   ///< for each element and up to 16 of its states, times multiprocessors
};

/// The same for a form whose blocks of threads walk over pieces.
struct PieceCosts {
  ScanCosts any;               ///< whatever the pieces are
  int channels;                ///< of a block of threads
  int places = 1;              ///< blocks that a multiprocessor holds at once, 1 or 2
  double token;                ///< for each token of a block, if all places are taken
  double token_alone = token;  ///< the same if the block is alone on its multiprocessor
  double block;                ///< how many tokens take as long as the start and the end of a block
};

struct PiecePlan {
  RunPieces pieces;
  double time = 0;  ///< in nanoseconds, by the model
};

/// The pieces of at most `longest` tokens, as few as possible, that begin at documents' starts. A longer document is
/// one piece or, if `open`, is cut at whole chunks. The count is 0 if there would be more than most_pieces.
RunPieces cut_run(const PieceRun& run, std::int64_t longest, bool open);

/// The time of these pieces by the model, in nanoseconds.
double time_of(const RunPieces& pieces, const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors);

/// The time of a form without pieces.
double time_of(const PieceRun& run, const ScanCosts& costs, std::int64_t multiprocessors);

/// The division with the shortest time by the model. It depends on the documents, the shape and the number of
/// multiprocessors only.
PiecePlan plan_pieces(const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors);

/// The plans of the last runs, since the layers of a model divide the same run again and again. A resource of a stream.
class PlannedPieces {
 public:
  /// plan_pieces(run, costs, multiprocessors).
  const PiecePlan& operator()(const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors);

 private:
  struct Entry {
    std::vector<std::int64_t> documents;
    std::int64_t tokens, channels, states;
    ScanDirection direction;
    int block_channels;
    PiecePlan plan;
  };
  static constexpr std::size_t most_entries = 12;
  std::vector<Entry> entries_;
  std::size_t replaced_ = 0;  ///< the entry that the next new one replaces
};

}  // namespace causeway::cuda
