#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "src/cli/launch.hpp"
#include "src/infer/sampling.hpp"

namespace causeway {

/// Everything `causeway generate` can be told, at its defaults.
struct GenerateSettings {
  LaunchOptions launch;                                                ///< no option: one rank, whatever starts it
  std::string checkpoint, prompt, prompt_file, dtype, device = "cpu";  ///< dtype "": the checkpoint's
  std::int64_t tokens = 100, seed = 0;
  SamplingOptions sampling;
};

/// Continues a document under a checkpoint's model: reads the prompt, then hands one byte after the other to `emit`.
/// The model's vocabulary is that of bytes; ids above 255, which no imported text holds, are never drawn. What a token
/// costs, in time and memory, does not depend on how many came before, except for attention's keys and values. One
/// rank; throws Error(usage) on more.
void generate(const GenerateSettings& settings, Communicator world, const std::function<void(std::string_view)>& emit);

}  // namespace causeway
