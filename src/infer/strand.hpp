#pragma once

#include <cstdint>
#include <span>

#include "src/train/data/pack_on_rank.hpp"

namespace causeway {

/// A strand of a document of nucleotides: as it is stored, or its reverse complement.
enum class Strand : std::uint8_t { forward, reverse };

/// The reverse complement of a document, as Evo 2 scores one (score_sequences_rc of github.com/ArcInstitute/evo2
/// reverses and complements the letters of the sequence, and adds end-of-document tokens afterwards): tokens 0 at the
/// document's start and end stay where they are; the tokens between are reversed, and each is replaced by its
/// complement_of (io/data/complement.hpp), which leaves what is no nucleotide as it is.
class ReverseDocument {
 public:
  /// Reads the document's ends. `data` must outlive the object.
  ReverseDocument(const Dataset& data, std::int64_t document);

  std::int64_t tokens() const { return tokens_; }
  /// Tokens [begin, begin + out.size()) of the reverse strand.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;
  /// The stored token that is opposite token i of the reverse strand; the function is its own inverse.
  std::int64_t opposite(std::int64_t i) const {
    return i < leading_ || i >= tokens_ - trailing_ ? i : leading_ + (tokens_ - trailing_ - 1 - i);
  }

 private:
  std::int64_t zeros_at_start() const;
  std::int64_t zeros_at_end() const;

  const Dataset& data_;
  std::int64_t offset_, tokens_;             // in the dataset
  std::int64_t leading_ = 0, trailing_ = 0;  // tokens 0 at the start, and at the end
};

/// This rank's part of a pack of whole documents of one dataset, on its device. Every token is predicted but the first
/// of a document, also where a loss mask or a loss weight is 0.
struct StrandOnRank {
  std::unique_ptr<Sharding> sharding;
  Tensor ids, labels;
  Batch batch() const { return {.ids = ids, .labels = labels}; }
};
StrandOnRank place_strand(const Dataset& data, const Pack& pack, Strand strand, Layout layout, const Runtime& runtime);

}  // namespace causeway
