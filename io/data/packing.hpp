#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace causeway {

/// Tokens [begin, end) of one document of one dataset (an index into the run's list of datasets).
struct Piece {
  std::int32_t dataset = 0;
  std::int64_t document = 0;
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Piece&) const = default;
};

/// Pieces that share one pack, in order of arrival; a piece is a document of its own to every operator.
struct Pack {
  std::vector<Piece> pieces;
  std::int64_t tokens() const;
  bool operator==(const Pack&) const = default;
};

/// What to do with a document longer than a pack: cut it into pieces of at most pack_tokens (counted), or refuse it
/// (Error(usage)).
enum class LongDocuments : std::uint8_t { cut, refuse };

struct PackingOptions {
  std::string_view policy = "greedy";
  std::int64_t pack_tokens = 0;
  std::int64_t window = 256;  ///< documents greedy and first_fit_decreasing look ahead
  LongDocuments long_documents = LongDocuments::cut;
};

/// The documents to be packed, in order: the next one, or nothing at the end.
using PieceSource = std::function<std::optional<Piece>()>;

/// Turns a stream of documents into a stream of packs. Deterministic; holds at most `window` documents. Empty documents
/// are skipped; the last pack may be short. Throws Error(usage) for an unknown policy or sizes below 1, and from next()
/// for a document to be refused.
class Packer {
 public:
  Packer(const PackingOptions& options, PieceSource source);
  ~Packer();
  std::optional<Pack> next();
  std::int64_t documents_cut() const;  ///< so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The documents of one dataset, in order; `cu_seqlens` must outlive the source.
PieceSource documents_of(std::span<const std::int64_t> cu_seqlens, std::int32_t dataset = 0);

/// What a policy makes of a stream of documents.
struct PackingStatistics {
  std::int64_t pack_tokens = 0;
  std::int64_t packs = 0, pieces = 0, tokens = 0;
  std::int64_t documents_cut = 0;
  std::int64_t least_tokens = 0;  ///< of the emptiest pack
  std::int64_t most_pieces = 0;   ///< of the pack with most

  /// The part of all packs' room that holds no token, the last pack's too; 0 where there is no pack.
  double padding_rate() const {
    return packs == 0
               ? 0
               : 1 - static_cast<double>(tokens) / (static_cast<double>(packs) * static_cast<double>(pack_tokens));
  }
};
PackingStatistics measure_packing(const PackingOptions& options, PieceSource source);

/// The table of policies:
///   in_order              fill in the order of arrival, seal a pack when the next document does not fit
///   greedy                of a sliding window, take the longest document that still fits (PackMamba §3's local greedy)
///   first_fit_decreasing  sort each window by length, put every document into the first pack with room
///   split                 fill every pack to the brim, cutting documents
struct PackingPolicy {
  std::string_view name;
  std::string_view summary;
};
std::span<const PackingPolicy> packing_policies();

}  // namespace causeway
