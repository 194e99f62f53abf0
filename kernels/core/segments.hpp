#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// The documents that a run of consecutive tokens (a chunk of a shard, or a whole pack) touches, in the run's own
/// coordinates: document s holds tokens [cu_seqlens[s], cu_seqlens[s+1]). The first may begin before the run
/// (cu_seqlens[0] <= 0), the last may end after it (cu_seqlens[count] >= tokens). Strictly increasing: empty documents
/// are not in it. This is all a kernel needs to know about packing: token t may look back as far as its document's
/// start, into the halo where that is negative.
struct SegmentsView {
  const std::int64_t* cu_seqlens = nullptr;  ///< count + 1 entries, in the memory of the device that computes
  std::int64_t count = 0;
  std::int64_t tokens = 0;
  const std::int64_t* host = nullptr;  ///< the same entries in host memory, for who plans; cu_seqlens itself on the CPU

  bool continues_from_left() const { return count > 0 && host[0] < 0; }
  bool continues_to_right() const { return count > 0 && host[count] > tokens; }
  /// The document of run token t: the s with cu_seqlens[s] <= t < cu_seqlens[s+1].
  std::int64_t document_of(std::int64_t t) const;
};

/// Throws Error(usage), naming `where`, unless the documents are in order: cu_seqlens has a first value, which is 0,
/// and never decreases.
void require_documents_in_order(std::span<const std::int64_t> cu_seqlens, const std::string& where);

/// The documents of a pack: cu_seqlens = 0, …, T, non-decreasing; equal neighbours are empty documents (PackMamba's and
/// FlashAttention's `cu_seqlens`).
class Segments {
 public:
  Segments() : cu_seqlens_{0} {}
  /// Throws as require_documents_in_order().
  explicit Segments(std::vector<std::int64_t> cu_seqlens, const std::string& where = "cu_seqlens");
  static Segments one_document(std::int64_t tokens) { return Segments({0, tokens}); }
  static Segments of_lengths(std::span<const std::int64_t> lengths);

  std::int64_t tokens() const { return cu_seqlens_.back(); }
  std::int64_t count() const { return static_cast<std::int64_t>(cu_seqlens_.size()) - 1; }
  std::span<const std::int64_t> cu_seqlens() const { return cu_seqlens_; }

  /// Where the document of token t starts and ends.
  std::int64_t start_of(std::int64_t t) const;
  std::int64_t end_of(std::int64_t t) const;
  /// Position of each token of [begin, end) in its document, from 0.
  std::vector<std::int64_t> positions(std::int64_t begin, std::int64_t end) const;
  /// cu_seqlens of the run [begin, end) in its own coordinates, as SegmentsView describes.
  std::vector<std::int64_t> slice(std::int64_t begin, std::int64_t end) const;

 private:
  std::vector<std::int64_t> cu_seqlens_;
};

/// The documents of a run, its cu_seqlens as Segments::slice returns them, where the kernels of a stream's device read
/// them. The host's copy stays beside the device's.
class PlacedSegments {
 public:
  PlacedSegments() = default;
  PlacedSegments(const Stream& stream, std::vector<std::int64_t> cu_seqlens, std::int64_t tokens);

  std::span<const std::int64_t> cu_seqlens() const { return host_; }
  SegmentsView view() const;

 private:
  std::vector<std::int64_t> host_;
  Tensor device_;  // absent on the CPU
  std::int64_t tokens_ = 0;
};

/// A view of `cu_seqlens` in host memory, for kernels on the CPU.
inline SegmentsView segments_view(std::span<const std::int64_t> cu_seqlens, std::int64_t tokens) {
  return {cu_seqlens.data(), static_cast<std::int64_t>(cu_seqlens.size()) - 1, tokens, cu_seqlens.data()};
}

}  // namespace causeway
