#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/launch.hpp"
#include "src/infer/prompts.hpp"
#include "src/infer/sampling.hpp"

namespace causeway {

/// The options of `causeway generate`, with their defaults.
struct GenerateSettings {
  LaunchOptions launch;
  std::string checkpoint;
  PromptSource prompts;
  std::string dtype;  ///< "": the checkpoint's
  std::string device = "cpu", fp8 = "off", shard = "optimizer";
  std::int64_t tokens = 100, samples = 1, seed = 0;
  std::int64_t batch = 16;  ///< continuations that are computed together
  SamplingOptions sampling;
  std::string alphabet;           ///< the bytes that can be drawn; "": all
  std::vector<std::string> stop;  ///< token ids that end a continuation
  std::string output = "auto";    ///< bytes, ids; auto: bytes if the vocabulary has 256 to 512 ids
  std::string format = "auto";    ///< raw, fasta, jsonl; auto: raw for one continuation, else fasta, or jsonl for ids
  std::string out;                ///< "": standard output
  bool force = false;             ///< replaces `out` if it exists
};

/// Continues documents with a checkpoint's model: computes the prompts (prefill), then draws one token after the other
/// (decoding). Passes the text of the continuations to `emit`, in the order of prompts and samples; of a single one in
/// the raw format each token as it is drawn. `batch` of them share every pass over the weights. Draw i of sample s of
/// prompt p is draw i of the seed's random stream p·2³² + s: it does not depend on the batch. Time and memory a token
/// do not depend on the number of tokens before it, except for attention's key/value cache. Several
/// ranks share the weights, which `shard` must ask for, else AgreedError(usage); only the first one emits.
void generate(const GenerateSettings& settings, Communicator world, const std::function<void(std::string_view)>& emit);

}  // namespace causeway
