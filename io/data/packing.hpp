#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace causeway {

/// Tokens [begin, end) of one document. `dataset` is an index into the run's list of datasets.
struct Piece {
  std::int32_t dataset = 0;
  std::int64_t document = 0;
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Piece&) const = default;
};

/// The pieces of one pack, in order of arrival. Operators treat each piece as a separate document.
struct Pack {
  std::vector<Piece> pieces;
  std::int64_t tokens() const;
  bool operator==(const Pack&) const = default;
};

/// For a document longer than a pack: cut it into pieces of at most pack_tokens (and count it), or throw Error(usage).
enum class LongDocuments : std::uint8_t { cut, refuse };

struct PackingOptions {
  std::string_view policy = "greedy";
  std::int64_t pack_tokens = 0;
  std::int64_t window = 256;  ///< documents that greedy and first_fit_decreasing choose from
  LongDocuments long_documents = LongDocuments::cut;
};

/// Returns the next document to be packed, or nothing at the end.
using PieceSource = std::function<std::optional<Piece>()>;

/// Turns a stream of documents into a stream of packs. Deterministic; keeps at most `window` documents in memory. Empty
/// documents are skipped; the last pack may be short. Throws Error(usage) for an unknown policy and sizes below 1, and
/// from next() for a document that is too long with LongDocuments::refuse.
class Packer {
 public:
  Packer(const PackingOptions& options, PieceSource source);
  ~Packer();
  std::optional<Pack> next();
  /// Replaces `pack` and reuses its memory. False, and an empty pack, at the end.
  bool next(Pack& pack);
  std::int64_t documents_cut() const;  ///< so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A source of the documents of one dataset, in order. `cu_seqlens` must outlive it.
PieceSource documents_of(std::span<const std::int64_t> cu_seqlens, std::int32_t dataset = 0);

/// How a policy packs a stream of documents.
struct PackingStatistics {
  std::int64_t pack_tokens = 0;
  std::int64_t packs = 0, pieces = 0, tokens = 0;
  std::int64_t documents_cut = 0;
  std::int64_t least_tokens = 0;  ///< of the pack with fewest tokens
  std::int64_t most_pieces = 0;   ///< of the pack with most pieces

  /// 1 - tokens / (packs * pack_tokens): the padded part of all packs, the last one included. 0 without packs.
  double padding_rate() const {
    return packs == 0
               ? 0
               : 1 - static_cast<double>(tokens) / (static_cast<double>(packs) * static_cast<double>(pack_tokens));
  }
};
PackingStatistics measure_packing(const PackingOptions& options, PieceSource source);

/// The table of policies:
///   in_order              in order of arrival; a new pack starts when the next document does not fit
///   greedy                from a sliding window, the longest document that still fits (local greedy of PackMamba, §3)
///   first_fit_decreasing  each window sorted by length; each document goes into the first pack in which it fits
///   split                 every pack is full; documents are cut where a pack ends
struct PackingPolicy {
  std::string_view name;
  std::string_view summary;
};
std::span<const PackingPolicy> packing_policies();

}  // namespace causeway
