#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/tensor.hpp"

/// Documents of packed sequences.
///
/// The index spaces. A *pack* is T tokens: documents one after the other, without padding. Ranks hold *chunks* of it:
/// each chunk is some consecutive tokens, and a rank may hold several (two in the zigzag layout). One kernel call works
/// on one *run*: some consecutive tokens of a pack. A chunk is a run; so are a part of a chunk and a whole pack.
///
///     document             0           1             2                 example: a pack of T = 14 tokens,
///     global token   |0 1 2 3 4|5 6 7 8 9 10|11 12 13|                 cu_seqlens = {0, 5, 11, 14},
///                          |<- chunk ->|                               the chunk is tokens [3, 9)
///     chunk row      (-3..) 0 1 2 3 4 5 (..10)                         its cu_seqlens = {-3, 2, 8}
///     rank-local row    offset + chunk row                             chunk = rows [offset, offset + 6)
///
/// - global token: 0 <= t < T, the same on every rank. `Segments` and layouts use it.
/// - rank-local row: a row of a rank's tensors, which hold its chunks one after the other. A chunk begins at row
///   `offset` (Chunk, parallel/layout/sharding.hpp).
/// - chunk row (run row, if the run is not a chunk): global token minus the run's first token, from 0. It is the row of
///   the tensors that a kernel gets. Rows below 0 are before the run: a halo or a carried state replaces them. Rows
///   from `tokens` on are after the run. `SegmentsView` uses it.
/// - document: an index into a cu_seqlens, counted within the pack (`Segments`) or within the run (`SegmentsView`).
/// - position: global token minus the first token of its document, from 0. RoPE uses it.
namespace causeway {

/// The documents that a run touches, in run rows: document s holds rows [cu_seqlens[s], cu_seqlens[s+1]). The first one
/// may begin before the run (cu_seqlens[0] <= 0), the last one may end after it (cu_seqlens[count] >= tokens). The
/// entries increase strictly: empty documents are left out. A kernel needs no other information about packing: row t
/// may read rows back to the start of its document, and negative rows are in the halo.
struct SegmentsView {
  const std::int64_t* cu_seqlens = nullptr;  ///< count + 1 entries, in the memory of the device that computes
  std::int64_t count = 0;                    ///< documents
  std::int64_t tokens = 0;                   ///< rows of the run
  const std::int64_t* host = nullptr;  ///< the same entries in host memory, for planning; on the CPU the same pointer

  /// The run's first document begins before the run.
  bool continues_from_left() const { return count > 0 && host[0] < 0; }
  /// The run's last document ends after the run.
  bool continues_to_right() const { return count > 0 && host[count] > tokens; }
  /// The document of run row t: the s with cu_seqlens[s] <= t < cu_seqlens[s+1]. Reads host memory.
  std::int64_t document_of(std::int64_t t) const;
};

/// Throws Error(usage), naming `where`, unless the documents are in order: cu_seqlens has a first value, which is 0,
/// and never decreases.
void require_documents_in_order(std::span<const std::int64_t> cu_seqlens, const std::string& where);

/// The documents of a whole pack, in global tokens: cu_seqlens = 0, …, T, non-decreasing; equal neighbours are empty
/// documents (the `cu_seqlens` of PackMamba and FlashAttention).
class Segments {
 public:
  /// No tokens and no documents.
  Segments() : cu_seqlens_{0} {}
  /// Throws as require_documents_in_order().
  explicit Segments(std::vector<std::int64_t> cu_seqlens, const std::string& where = "cu_seqlens");
  static Segments one_document(std::int64_t tokens) { return Segments({0, tokens}); }
  /// `count` documents of equal length, up to one token.
  static Segments equal_documents(std::int64_t tokens, std::int64_t count);
  static Segments of_lengths(std::span<const std::int64_t> lengths);

  std::int64_t tokens() const { return cu_seqlens_.back(); }
  std::int64_t count() const { return static_cast<std::int64_t>(cu_seqlens_.size()) - 1; }  ///< documents
  std::span<const std::int64_t> cu_seqlens() const { return cu_seqlens_; }

  /// The first global token of the document of global token t.
  std::int64_t start_of(std::int64_t t) const;
  /// One past the last global token of that document.
  std::int64_t end_of(std::int64_t t) const;
  /// The position, in its document, of each global token of [begin, end).
  std::vector<std::int64_t> positions(std::int64_t begin, std::int64_t end) const;
  /// cu_seqlens of the run of global tokens [begin, end), in run rows: what SegmentsView describes.
  std::vector<std::int64_t> slice(std::int64_t begin, std::int64_t end) const;

 private:
  std::vector<std::int64_t> cu_seqlens_;
};

/// Owns the cu_seqlens of a run (as Segments::slice returns them), in the memory of a stream's device and in host
/// memory.
class DeviceSegments {
 public:
  DeviceSegments() = default;
  DeviceSegments(const Stream& stream, std::vector<std::int64_t> cu_seqlens, std::int64_t tokens);

  std::span<const std::int64_t> cu_seqlens() const { return host_; }  ///< in host memory
  SegmentsView view() const;

 private:
  std::vector<std::int64_t> host_;
  Tensor device_;  // absent on the CPU
  std::int64_t tokens_ = 0;
};

/// A view, for kernels on the CPU, of a run's `cu_seqlens` in host memory.
inline SegmentsView segments_view(std::span<const std::int64_t> cu_seqlens, std::int64_t tokens) {
  return {cu_seqlens.data(), static_cast<std::int64_t>(cu_seqlens.size()) - 1, tokens, cu_seqlens.data()};
}

}  // namespace causeway
