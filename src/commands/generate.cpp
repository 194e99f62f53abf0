#include "src/cli/command.hpp"
#include "src/infer/generator.hpp"

namespace causeway {
namespace {

CommandLine declare(GenerateSettings& settings) {
  return {
      .usage = "--checkpoint FOLDER --prompt TEXT --tokens N [options]",
      .description =
          "Continues a text under a trained model of bytes: writes the bytes that follow the prompt to standard "
          "output, "
          "and nothing else there.\n\n"
          "The prompt is computed in one go, by the kernels of training; then a token at a time, from the filters' "
          "last "
          "inputs, the states of recurrences and attention's keys and values: only these last grow with the text.",
      .groups = {{"Text",
                  {{"checkpoint", &settings.checkpoint, "FOLDER",
                    "a run, whose latest checkpoint it then is, or one of its step-N"},
                   {"prompt", &settings.prompt, "TEXT", "what the text begins with; any bytes"},
                   {"prompt-file", &settings.prompt_file, "FILE",
                    "the same from a file, as it stands there, its last newline too"},
                   {"tokens", &settings.tokens, "N", "bytes to write"}}},
                 {"Choice",
                  {{"temperature", &settings.sampling.temperature, "X",
                    "above 1 bolder, below 1 more careful; 0: the likeliest byte always"},
                   {"top-k", &settings.sampling.top_k, "N", "choose among that many likeliest bytes; 0: among all"},
                   {"seed", &settings.seed, "N", "another seed, another text; the same seed, the same text"}}},
                 {"Numbers",
                  {{"dtype", &settings.dtype, "f32|f64|bf16", "type of activations and weights, else the checkpoint's"},
                   {"device", &settings.device, "", "where to compute", {"cpu", "cuda"}}}}},
      .examples =
          "causeway generate --checkpoint runs/first --prompt ACGTACGT --tokens 200\n"
          "causeway generate --checkpoint runs/first --prompt-file gene.txt --tokens 1000 --temperature 0.7 "
          "--top-k 4 > continued.txt"};
}

ExitCode execute(const GenerateSettings& settings) {
  require(!settings.checkpoint.empty(), "--checkpoint is missing");
  require(settings.tokens >= 1, "--tokens is {}, expected 1 or more", settings.tokens);
  require(settings.sampling.temperature >= 0 && settings.sampling.temperature <= 1e6,
          "--temperature is {}, expected 0 to 1e6", settings.sampling.temperature);
  require(settings.sampling.top_k >= 0, "--top-k is {}, expected 0 or more", settings.sampling.top_k);
  require(settings.seed >= 0, "--seed is {}, expected 0 or more", settings.seed);
  return launch(settings.launch, [&](Communicator world) {
    generate(settings, std::move(world), [](std::string_view bytes) { print_answer(bytes, 0); });
    return ExitCode::ok;
  });
}

}  // namespace

Command generate_command() {
  return make_command<GenerateSettings, declare, execute>("generate", "continue a text under a trained model");
}

}  // namespace causeway
