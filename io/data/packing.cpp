#include "io/data/packing.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <memory_resource>
#include <numeric>
#include <set>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// The documents that the policies receive, numbered in order of arrival. No document is empty or longer than a pack.
struct DocumentQueue {
  struct Item {
    std::int64_t number = 0;
    Piece piece;
  };

  PackingOptions options;
  PieceSource source;
  std::optional<Piece> rest;  ///< of the document that is being cut
  bool counted = false;       ///< whether `cut` includes that document
  bool ended = false;
  std::int64_t arrived = 0, cut = 0;

  std::optional<Item> next() { return next(options.pack_tokens); }

  /// The next piece, of at most `most` tokens.
  std::optional<Item> next(std::int64_t most) {
    while (!rest || rest->size() == 0) {
      if (!ended) rest = source();
      ended = ended || !rest;
      if (ended) return std::nullopt;
      ensure(rest->begin >= 0 && rest->size() >= 0, "a piece is tokens [{}, {})", rest->begin, rest->end);
      const bool longer = rest->size() > options.pack_tokens;
      require(!longer || options.long_documents == LongDocuments::cut,
              "document {} has {} tokens, expected at most {} (a pack), or permission to cut it", rest->document,
              rest->size(), options.pack_tokens);
      counted = false;
    }
    Item item{arrived++, *rest};
    if (item.piece.size() > most) {
      item.piece.end = item.piece.begin + most;
      if (!counted) ++cut;
      counted = true;
    }
    rest->begin = item.piece.end;
    return item;
  }
};
using Item = DocumentQueue::Item;

/// The documents that greedy chooses from. The longest is first, the earliest of equally long ones before the others.
struct LongestFirst {
  using is_transparent = void;
  bool operator()(const Item& a, const Item& b) const {
    return a.piece.size() != b.piece.size() ? a.piece.size() > b.piece.size() : a.number < b.number;
  }
  bool operator()(const Item& a, std::int64_t tokens) const { return a.piece.size() > tokens; }
};

/// The free tokens of the packs of one window, for first-fit: finds the first pack with enough of them in O(log packs).
class FreeTokens {
 public:
  FreeTokens(std::size_t packs, std::int64_t each) : leaves_(std::bit_ceil(packs)), most_(2 * leaves_, each) {}
  /// The first pack with at least `tokens`, which one must have. Takes them from it.
  std::size_t take(std::int64_t tokens) {
    std::size_t node = 1;
    while (node < leaves_) node = most_[2 * node] >= tokens ? 2 * node : 2 * node + 1;
    const std::size_t pack = node - leaves_;
    most_[node] -= tokens;
    for (node /= 2; node >= 1; node /= 2) most_[node] = std::max(most_[2 * node], most_[2 * node + 1]);
    return pack;
  }

 private:
  std::size_t leaves_;              // a power of two
  std::vector<std::int64_t> most_;  // [1, leaves): the larger of nodes 2i and 2i+1; [leaves, 2·leaves): of each pack
};

/// The state of a policy between two packs. Each policy uses its own members.
struct PolicyState {
  std::optional<Item> waiting;  // in_order
  std::vector<Item> chosen;     // greedy: of the pack that is filled; kept for its memory
  std::pmr::unsynchronized_pool_resource nodes;
  std::pmr::set<Item, LongestFirst> window{&nodes};  // greedy
  std::deque<Pack> packs;                            // first_fit_decreasing
};

/// Fills an empty pack, or leaves it empty at the end.
using Policy = void (*)(DocumentQueue&, PolicyState&, Pack&);

void add_in_arrival_order(std::vector<Item>& items, Pack& pack) {
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.number < b.number; });
  for (const Item& item : items) pack.pieces.push_back(item.piece);
}

void in_order(DocumentQueue& queue, PolicyState& state, Pack& pack) {
  std::int64_t free_tokens = queue.options.pack_tokens;
  if (!state.waiting) state.waiting = queue.next();
  while (state.waiting && state.waiting->piece.size() <= free_tokens) {
    free_tokens -= state.waiting->piece.size();
    pack.pieces.push_back(state.waiting->piece);
    state.waiting = queue.next();
  }
}

void split(DocumentQueue& queue, PolicyState&, Pack& pack) {
  for (std::int64_t free_tokens = queue.options.pack_tokens; free_tokens > 0;) {
    const std::optional<Item> item = queue.next(free_tokens);
    if (!item) break;
    free_tokens -= item->piece.size();
    pack.pieces.push_back(item->piece);
  }
}

void greedy(DocumentQueue& queue, PolicyState& state, Pack& pack) {
  state.chosen.clear();
  for (std::int64_t free_tokens = queue.options.pack_tokens; free_tokens > 0;) {
    while (static_cast<std::int64_t>(state.window.size()) < queue.options.window) {
      const std::optional<Item> item = queue.next();
      if (!item) break;
      state.window.insert(*item);
    }
    const auto longest = state.window.lower_bound(free_tokens);  // the earliest document of this length
    if (longest == state.window.end()) break;
    free_tokens -= longest->piece.size();
    state.chosen.push_back(*longest);
    state.window.erase(longest);
  }
  add_in_arrival_order(state.chosen, pack);
}

void first_fit_decreasing(DocumentQueue& queue, PolicyState& state, Pack& pack) {
  if (state.packs.empty()) {
    std::vector<Item> window;
    while (static_cast<std::int64_t>(window.size()) < queue.options.window) {
      const std::optional<Item> item = queue.next();
      if (!item) break;
      window.push_back(*item);
    }
    std::stable_sort(window.begin(), window.end(),
                     [](const Item& a, const Item& b) { return a.piece.size() > b.piece.size(); });
    std::vector<std::vector<Item>> bins;
    FreeTokens free_tokens(window.size(), queue.options.pack_tokens);  // at most one pack a document
    for (const Item& item : window) {
      const std::size_t bin = free_tokens.take(item.piece.size());
      if (bin == bins.size()) bins.emplace_back();
      bins[bin].push_back(item);
    }
    for (auto& bin : bins) add_in_arrival_order(bin, state.packs.emplace_back());
  }
  if (state.packs.empty()) return;
  pack = std::move(state.packs.front());
  state.packs.pop_front();
}

struct PolicyRow {
  PackingPolicy description;
  Policy next;
};
constexpr std::array policy_table = {
    PolicyRow{{"in_order", "in order of arrival; a new pack starts when the next document does not fit"}, in_order},
    PolicyRow{{"greedy", "from a sliding window, the longest document that still fits"}, greedy},
    PolicyRow{
        {"first_fit_decreasing", "sorts a window by length; each document goes into the first pack in which it fits"},
        first_fit_decreasing},
    PolicyRow{{"split", "every pack is full; documents are cut where a pack ends"}, split},
};

constexpr auto descriptions = [] {
  std::array<PackingPolicy, policy_table.size()> rows;
  for (std::size_t row = 0; row < rows.size(); ++row) rows[row] = policy_table[row].description;
  return rows;
}();

}  // namespace

std::span<const PackingPolicy> packing_policies() { return descriptions; }

std::int64_t Pack::tokens() const {
  return std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0},
                         [](std::int64_t sum, const Piece& piece) { return sum + piece.size(); });
}

struct Packer::State {
  DocumentQueue queue;
  Policy next = nullptr;
  PolicyState policy_state;
};

Packer::Packer(const PackingOptions& options, PieceSource source) : state_(std::make_unique<State>()) {
  require(options.pack_tokens >= 1, "pack_tokens is {}, expected at least 1", options.pack_tokens);
  require(options.window >= 1, "packing window is {}, expected at least 1", options.window);
  std::string known;
  for (const PolicyRow& row : policy_table) {
    if (row.description.name == options.policy) state_->next = row.next;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.description.name);
  }
  require(state_->next != nullptr, "packing policy is '{}', expected one of {}", options.policy, known);
  state_->queue.options = options;
  state_->queue.source = std::move(source);
}

Packer::~Packer() = default;

bool Packer::next(Pack& pack) {
  pack.pieces.clear();
  state_->next(state_->queue, state_->policy_state, pack);
  return !pack.pieces.empty();
}

std::optional<Pack> Packer::next() {
  Pack pack;
  if (!next(pack)) return std::nullopt;
  return pack;
}

std::int64_t Packer::documents_cut() const { return state_->queue.cut; }

PieceSource documents_of(std::span<const std::int64_t> cu_seqlens, std::int32_t dataset) {
  return [cu_seqlens, dataset, document = std::size_t{0}]() mutable -> std::optional<Piece> {
    if (document + 1 >= cu_seqlens.size()) return std::nullopt;
    const Piece piece{dataset, static_cast<std::int64_t>(document), 0, cu_seqlens[document + 1] - cu_seqlens[document]};
    ++document;
    return piece;
  };
}

PackingStatistics measure_packing(const PackingOptions& options, PieceSource source) {
  PackingStatistics statistics{.pack_tokens = options.pack_tokens};
  Packer packer(options, std::move(source));
  for (Pack pack; packer.next(pack);) {
    const auto pieces = static_cast<std::int64_t>(pack.pieces.size());
    const std::int64_t tokens = pack.tokens();
    statistics.least_tokens = statistics.packs == 0 ? tokens : std::min(statistics.least_tokens, tokens);
    statistics.most_pieces = std::max(statistics.most_pieces, pieces);
    ++statistics.packs;
    statistics.pieces += pieces;
    statistics.tokens += tokens;
  }
  statistics.documents_cut = packer.documents_cut();
  return statistics;
}

}  // namespace causeway
