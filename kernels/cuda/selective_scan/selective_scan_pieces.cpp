#include "kernels/cuda/selective_scan/selective_scan_pieces.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

// Passes 1 and 2, and pass 2 for each chunk, on an H200.
constexpr ScanCosts sums{.launches = 17000, .element = 0.72};
constexpr double fold_of_chunk = 120;

/// Elements of some tokens and 16 states of a channel, for each multiprocessor.
double elements_of(const PieceRun& run, std::int64_t tokens, std::int64_t multiprocessors) {
  return static_cast<double>(tokens * run.channels * ceil_div<std::int64_t>(run.states, 16)) /
         static_cast<double>(multiprocessors);
}

/// Some places of the device whose blocks of threads end at the same time.
struct Places {
  double time;
  std::int64_t count;
};

/// When the last block of threads ends, and when the blocks of a place end on average.
struct EndOfBlocks {
  double last = 0, mean = 0;
};

/// For every piece, the longest first, `groups` blocks of threads start one after the other, each at the place that is
/// free first. In tokens.
EndOfBlocks end_of_blocks(const RunPieces& pieces, double tokens_of_block, std::int64_t groups, std::int64_t places) {
  std::array<Places, 2 * most_pieces + 2> free;
  std::size_t count = 1;
  free[0] = {0, places};
  EndOfBlocks end;
  for (int p = 0; p < pieces.count; ++p)
    for (std::int64_t left = groups; left > 0;) {
      const Places first = free[0];
      const std::int64_t taken = std::min(left, first.count);
      const double time = first.time + tokens_of_block + (pieces.end[p] - pieces.begin[p]);
      left -= taken;
      end.last = std::max(end.last, time);
      if (taken == first.count)
        std::copy(free.begin() + 1, free.begin() + static_cast<std::ptrdiff_t>(count--), free.begin());
      else
        free[0].count -= taken;
      auto* const last = free.data() + count;
      auto* const at =
          std::lower_bound(free.data(), last, time, [](const Places& x, double limit) { return x.time < limit; });
      if (at != last && at->time == time) {
        at->count += taken;
      } else {
        std::copy_backward(at, last, last + 1);
        *at = {time, taken};
        ++count;
      }
    }
  for (std::size_t i = 0; i < count; ++i) end.mean += free[i].time * static_cast<double>(free[i].count);
  end.mean /= static_cast<double>(places);
  return end;
}

/// The tokens whose chunks pass 1 visits: those of documents with open cuts, before the last cut (left to right) or
/// after the first one (right to left).
std::int64_t summed_tokens(const RunPieces& pieces, const PieceRun& run) {
  const bool backwards = run.direction == ScanDirection::right_to_left;
  std::int64_t sum = 0;
  for (int p = 0; p < pieces.count; ++p) {
    if (pieces.open[p] == 0) continue;
    const std::int64_t cut = backwards ? pieces.end[p] : pieces.begin[p], document = run.segments.document_of(cut),
                       start = std::max<std::int64_t>(run.segments.host[document], 0),
                       end = std::min(run.segments.host[document + 1], run.segments.tokens);
    bool outermost = true;
    for (int other = 0; other < pieces.count; ++other) {
      const std::int64_t its = backwards ? pieces.end[other] : pieces.begin[other];
      if (pieces.open[other] != 0 && (backwards ? its > start && its < cut : its > cut && its < end)) outermost = false;
    }
    if (outermost) sum += backwards ? end - cut : cut - start;
  }
  return sum;
}

}  // namespace

RunPieces cut_run(const PieceRun& run, std::int64_t longest, bool open) {
  const std::int64_t tokens = run.segments.tokens, chunk = run.chunk_tokens;
  const std::int64_t *const first = run.segments.host, *const last = first + run.segments.count;
  RunPieces cut;  // from left to right
  bool within = false;
  for (std::int64_t begin = 0, end = 0; begin < tokens; begin = end) {
    if (cut.count == most_pieces) return {};
    const std::int64_t limit = begin + longest;
    const std::int64_t* const after = std::upper_bound(first, last, limit);  // the first document that starts beyond
    const std::int64_t start = *(after - 1), whole_chunks = limit / chunk * chunk;
    const bool within_before = within;
    within = false;
    if (limit >= tokens) {
      end = tokens;
    } else if (open && whole_chunks > begin && start < begin + longest / 2) {
      end = whole_chunks;
      within = start != whole_chunks;
    } else {
      end = start > begin ? start : std::min(*after, tokens);
    }
    cut.begin[cut.count] = static_cast<std::int32_t>(begin);
    cut.end[cut.count] = static_cast<std::int32_t>(end);
    cut.open[cut.count++] = run.direction == ScanDirection::right_to_left ? within : within_before;
  }
  std::array<int, most_pieces> order;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.begin() + cut.count,
                   [&](int a, int b) { return cut.end[a] - cut.begin[a] > cut.end[b] - cut.begin[b]; });
  RunPieces pieces;
  for (; pieces.count < cut.count; ++pieces.count) {
    const int from = order[static_cast<std::size_t>(pieces.count)];
    pieces.begin[pieces.count] = cut.begin[from];
    pieces.end[pieces.count] = cut.end[from];
    pieces.open[pieces.count] = cut.open[from];
    pieces.any_open = pieces.any_open || cut.open[from] != 0;
  }
  return pieces;
}

double time_of(const RunPieces& pieces, const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors) {
  const std::int64_t groups = ceil_div<std::int64_t>(run.channels, costs.channels), blocks = groups * pieces.count,
                     places = multiprocessors * costs.places;
  EndOfBlocks end = end_of_blocks(pieces, costs.block, groups, places);
  // The last block is alone on its multiprocessor when the block beside it has ended.
  if (costs.places > 1 && blocks <= places) {
    const std::int64_t beside = multiprocessors / groups;
    end.mean = blocks <= multiprocessors ? 0 : costs.block + (pieces.end[beside] - pieces.begin[beside]);
  }
  double time =
      time_of(run, costs.any, multiprocessors) + end.mean * costs.token + (end.last - end.mean) * costs.token_alone;
  if (pieces.any_open)
    time += sums.launches + sums.element * elements_of(run, summed_tokens(pieces, run), multiprocessors) +
            fold_of_chunk * static_cast<double>(ceil_div(run.segments.tokens, run.chunk_tokens));
  return time;
}

double time_of(const PieceRun& run, const ScanCosts& costs, std::int64_t multiprocessors) {
  return costs.launches + costs.element * elements_of(run, run.segments.tokens, multiprocessors);
}

PiecePlan plan_pieces(const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors) {
  PiecePlan best;
  best.time = std::numeric_limits<double>::infinity();
  const std::int64_t tokens = run.segments.tokens, chunks = ceil_div(tokens, run.chunk_tokens);
  const double groups = static_cast<double>(ceil_div<std::int64_t>(run.channels, costs.channels));
  for (std::int64_t count = 1; count <= most_pieces; ++count) {
    const double evenly = time_of(run, costs.any, multiprocessors) +
                          groups * (static_cast<double>(tokens) + static_cast<double>(count) * costs.block) /
                              static_cast<double>(multiprocessors * costs.places) * costs.token;
    if (evenly >= best.time) break;  // more pieces cannot be better
    for (const bool open : {false, true}) {
      if (count == 1 && open) continue;
      const RunPieces pieces =
          cut_run(run, open ? ceil_div(chunks, count) * run.chunk_tokens : ceil_div(tokens, count), open);
      if (pieces.count == 0 || pieces.any_open != open) continue;
      const double time = time_of(pieces, run, costs, multiprocessors);
      if (time < best.time) best = {pieces, time};
    }
  }
  return best;
}

const PiecePlan& PlannedPieces::operator()(const PieceRun& run, const PieceCosts& costs, std::int64_t multiprocessors) {
  const SegmentsView& segments = run.segments;
  const auto documents = static_cast<std::size_t>(segments.count + 1);
  for (const Entry& entry : entries_)
    if (entry.tokens == segments.tokens && entry.channels == run.channels && entry.states == run.states &&
        entry.direction == run.direction && entry.block_channels == costs.channels &&
        entry.documents.size() == documents &&
        std::equal(entry.documents.begin(), entry.documents.end(), segments.host))
      return entry.plan;
  Entry entry{.documents = {segments.host, segments.host + documents},
              .tokens = segments.tokens,
              .channels = run.channels,
              .states = run.states,
              .direction = run.direction,
              .block_channels = costs.channels,
              .plan = plan_pieces(run, costs, multiprocessors)};
  if (entries_.size() < most_entries) return entries_.emplace_back(std::move(entry)).plan;
  Entry& place = entries_[replaced_];
  replaced_ = (replaced_ + 1) % most_entries;
  place = std::move(entry);
  return place.plan;
}

}  // namespace causeway::cuda
