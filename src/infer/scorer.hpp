#pragma once

#include <string>
#include <vector>

#include "src/cli/launch.hpp"
#include "src/health/fault_settings.hpp"
#include "src/train/settings/compute_settings.hpp"

namespace causeway {

/// The options of `causeway score`, with their defaults.
struct ScoreSettings {
  LaunchOptions launch;
  ComputeSettings compute{.dtype = ""};  ///< "": the checkpoint's
  FaultSettings faults;
  std::string checkpoint, data, out, tsv;
  std::vector<std::string> embeddings;
  bool reverse_complement = false;
  std::string probabilities, probabilities_dtype = "f32";
  std::int64_t pack_tokens = 65536;
};

/// Writes to settings.out (scores.h5) the log-likelihood in nats of each token and each document under a checkpoint's
/// model, and what else is asked for: layers' residual streams, the score of the reverse complement, probabilities of
/// tokens, a table of the documents. Documents are packed in the dataset's order; a document longer than a pack becomes
/// one longer pack and is not cut. Every rank scores its shards and sends the results to rank 0 in parts of bounded
/// size. The file appears complete or not at all.
void score(const ScoreSettings& settings, Communicator world);

}  // namespace causeway
