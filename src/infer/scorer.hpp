#pragma once

#include <string>

#include "src/train/train_settings.hpp"

namespace causeway {

/// Everything `causeway score` can be told, at its defaults.
struct ScoreSettings {
  LaunchOptions launch;
  ComputeSettings compute{.dtype = ""};  ///< "": the checkpoint's
  FaultSettings faults;
  std::string checkpoint, data, out, embeddings;
  std::int64_t pack_tokens = 65536;
};

/// Writes each token's and each document's log-likelihood under a checkpoint's model to scores.h5, and a layer's
/// residual stream where asked. Documents are packed in order; one longer than a pack is a pack of its own, uncut.
/// Every rank computes its shards and sends what they give to rank 0, a bounded piece at a time; the file appears whole
/// or not at all.
void score(const ScoreSettings& settings, Communicator world);

}  // namespace causeway
