#pragma once

#include <functional>
#include <span>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "src/infer/prompts.hpp"
#include "src/infer/sampling.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// Sample number `sample`, from 0, of prompt number `prompt`.
struct Draw {
  std::size_t prompt = 0;
  std::int64_t sample = 0;
};

/// How continuations are drawn.
struct DrawOptions {
  SamplingOptions sampling;
  std::vector<std::int32_t> stop;  ///< a continuation ends when one of these is drawn
  std::int64_t tokens = 0;         ///< of a continuation, at most
  std::uint64_t seed = 0;
  std::function<void(std::int32_t)> on_token = {};  ///< if given: called with every token that is no stop
};

/// The tokens that were drawn; the last one may be a stop.
using DrawnTokens = std::vector<std::int32_t>;

/// A checkpoint's model, which continues several documents together. With several ranks each holds a shard of the
/// weights; all of them compute the same, and draw from the first rank's logits.
class BatchDecoder {
 public:
  /// Collective over `ranks`, as decode() is. `ranks` must outlive this object.
  BatchDecoder(const Checkpoint& checkpoint, const Model::Options& options, Communicator& ranks, const Stream& stream);

  /// Continues a prompt for each draw. Draws of one prompt that follow each other compute it once.
  std::vector<DrawnTokens> decode(std::span<const Prompt> prompts, std::span<const Draw> draws,
                                  const DrawOptions& options);

  double prefill_s() const { return prefill_s_; }  ///< so far
  double decoding_s() const { return decoding_s_; }

 private:
  /// A document and the logits of the token after it, [vocabulary].
  struct Document {
    DocumentState state;
    std::vector<double> logits;
  };
  std::vector<Document> prefill(std::span<const Prompt> prompts, std::span<const Draw> draws);
  void compute_prompts(std::span<const Prompt* const> prompts, std::span<Document* const> documents);
  /// Appends ids to the documents, counts[d] of them to document d, and sets the documents' logits.
  void extend(std::span<Document* const> documents, std::span<const std::int64_t> counts,
              std::span<const std::int32_t> ids);

  Communicator& ranks_;
  const Stream& stream_;
  Model model_;
  double prefill_s_ = 0, decoding_s_ = 0;
};

}  // namespace causeway
