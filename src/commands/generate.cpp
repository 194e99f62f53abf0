#include <unistd.h>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"
#include "src/cli/command.hpp"
#include "src/infer/generator.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

CommandLine declare(GenerateSettings& settings) {
  return {
      .usage = "--checkpoint DIRECTORY --prompt TEXT --tokens N [options]",
      .description =
          "Continues texts, or sequences of token ids, with a trained model. For one prompt and one sample it writes "
          "the generated tokens and nothing else: bytes if the model has 256 to 512 token ids, otherwise ids with "
          "blanks between them. For several it writes FASTA records \">NAME sample=N\", or lines of JSON if tokens "
          "are written as ids. On a terminal, control characters and bytes that are not UTF-8 are shown as escapes "
          "(\\x1b).\n\n"
          "A prompt is computed in one forward pass, by the kernels of training. Each further token is computed from "
          "the state of the layers: the last inputs of filters, the states of recurrences, and the keys and values of "
          "attention. Only the keys and values grow with the text. --batch continuations share every pass over the "
          "weights; sample S of prompt P has its own random numbers, so that the batch changes nothing but rounding.",
      .groups =
          {{"Text",
            {{"checkpoint", &settings.checkpoint, "DIRECTORY",
              "a checkpoint (step-N), or a run, which means its latest checkpoint"},
             {"prompt", &settings.prompts.text, "TEXT", "the start of the text; any bytes"},
             {"prompt-file", &settings.prompts.file, "FILE",
              "read the prompt from a file, all its bytes, the last newline too"},
             {"prompt-ids", &settings.prompts.ids, "IDS", "the prompt as token ids: --prompt-ids '15 2 803'"},
             {"prompts", &settings.prompts.list, "FILE", "continue each prompt of a file, which may be compressed"},
             {"prompts-format",
              &settings.prompts.list_format,
              "",
              "format of the file of --prompts; auto: fasta if it starts with '>', else lines: each line is a prompt",
              {"auto", "fasta", "lines", "ids"}},
             {"samples", &settings.samples, "N", "continuations of each prompt"},
             {"tokens", &settings.tokens, "N", "tokens to generate for each, at most"},
             {"stop", &settings.stop, "ID",
              "a token that ends a continuation and is not written; Evo 2 ends a document with 0"}}},
           {"Sampling",
            {{"alphabet", &settings.alphabet, "BYTES",
              "draw only these bytes, and the stops: --alphabet ACGT; applied before the other options"},
             {"temperature", &settings.sampling.temperature, "X",
              "divides the logits: below 1 the likely tokens become more likely, above 1 less; 0: always take the "
              "most likely token"},
             {"top-k", &settings.sampling.top_k, "N", "sample only from the N most likely tokens; 0: from all"},
             {"top-p", &settings.sampling.top_p, "P",
              "sample only from the most likely tokens that together have the probability P; 1: from all"},
             {"seed", &settings.seed, "N", "seed of the random draws; the same seed gives the same text"}}},
           {"Output",
            {{"out", &settings.out, "FILE", "write to this file instead of standard output, when all is generated"},
             {"force", &settings.force, "", "replace the file of --out if it exists"},
             {"format",
              &settings.format,
              "",
              "auto: raw for one continuation, else fasta, or jsonl for ids; raw: the tokens of each on a line",
              {"auto", "raw", "fasta", "jsonl"}},
             {"output",
              &settings.output,
              "",
              "write tokens as bytes, or as ids; with bytes, ids above 255 are never drawn",
              {"auto", "bytes", "ids"}}}},
           {"Computation",
            {{"batch", &settings.batch, "N", "continuations to compute together"},
             {.name = "dtype",
              .field = &settings.dtype,
              .value = "f32|f64|bf16",
              .help = "type of activations and weights",
              .shown_default = "the checkpoint's"},
             {"fp8",
              &settings.fp8,
              "",
              "8-bit floats for products with weights: of the input projections, as Evo 2's 1B, 20B and 40B models "
              "were trained, or all",
              {"off", "projections", "all"}},
             {"device", &settings.device, "", "where to compute", {"cpu", "cuda"}},
             {"shard",
              &settings.shard,
              "",
              "parameters: several ranks hold the weights together, each its share, for a model larger than one rank's "
              "memory. Otherwise there must be one rank",
              {"optimizer", "gradients", "parameters"}}}},
           launch_group(settings.launch)},
      .examples =
          "causeway generate --checkpoint runs/first --prompt ACGTACGT --tokens 200\n"
          "causeway generate --checkpoint runs/first --prompt-file gene.txt --tokens 1000 --temperature 0.7 "
          "--top-k 4 > continued.txt\n"
          "causeway generate --checkpoint runs/first --prompts genes.fa --samples 4 --alphabet ACGT --stop 0 "
          "--tokens 500 --out continued.fa"};
}

void check(const GenerateSettings& settings) {
  require(!settings.checkpoint.empty(), "--checkpoint is missing: expected a checkpoint or a run");
  constexpr std::int64_t most_samples = std::int64_t{1} << 31, most_batch = 65536;
  require(settings.tokens >= 1, "--tokens is {}, expected 1 or more", settings.tokens);
  require(settings.samples >= 1 && settings.samples <= most_samples, "--samples is {}, expected 1 to {}",
          settings.samples, most_samples);
  require(settings.batch >= 1 && settings.batch <= most_batch, "--batch is {}, expected 1 to {}", settings.batch,
          most_batch);
  require(settings.sampling.temperature >= 0 && settings.sampling.temperature <= 1e6,
          "--temperature is {}, expected 0 to 1e6", settings.sampling.temperature);
  require(settings.sampling.top_k >= 0, "--top-k is {}, expected 0 or more", settings.sampling.top_k);
  require(settings.sampling.top_p > 0 && settings.sampling.top_p <= 1, "--top-p is {}, expected more than 0, at most 1",
          settings.sampling.top_p);
  require(settings.seed >= 0, "--seed is {}, expected 0 or more", settings.seed);
}

/// Writes to --out, which appears when everything is written.
void generate_to_file(const GenerateSettings& settings, Communicator world) {
  AtomicFile target(settings.out, settings.force ? Existing::replaced : Existing::refused);
  Descriptor file = target.open();
  generate(settings, std::move(world),
           [&](std::string_view text) { posix_check(write_all(file.get(), text) ? 0 : -1, target.path(), "write"); });
  file.reset();
  target.commit();
}

/// Writes to standard output. A terminal must not obey the text of a model: it gets escapes, and a character when all
/// of its bytes are there.
void generate_to_terminal(const GenerateSettings& settings, Communicator world) {
  std::string text;
  generate(settings, std::move(world), [&](std::string_view bytes) {
    text += bytes;
    const std::size_t whole = text.size() - incomplete_bytes(text);
    write_result(safe_lines(std::string_view(text).substr(0, whole)));
    text.erase(0, whole);
  });
  write_result(safe_lines(text));
}

ExitCode execute(const GenerateSettings& settings) {
  check(settings);
  return launch(settings.launch, [&](Communicator world) {
    if (world.rank() > 0)
      generate(settings, std::move(world), {});
    else if (!settings.out.empty())
      generate_to_file(settings, std::move(world));
    else if (::isatty(STDOUT_FILENO) == 0)
      generate(settings, std::move(world), write_result);
    else
      generate_to_terminal(settings, std::move(world));
    return ExitCode::ok;
  });
}

}  // namespace

Command generate_command() {
  return make_command<GenerateSettings, declare, execute>("generate", "continue texts with a trained model");
}

}  // namespace causeway
