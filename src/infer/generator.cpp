#include "src/infer/generator.hpp"

#include <algorithm>
#include <optional>

#include "io/file/sha256.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/cli/log.hpp"
#include "src/cli/progress.hpp"
#include "src/infer/batch_decoder.hpp"
#include "src/infer/continuation.hpp"
#include "src/infer/token_lists.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/runtime/rank_stream.hpp"

namespace causeway {
namespace {

constexpr std::int64_t byte_values = 256, byte_vocabulary = 512;

/// What is generated, and how it is written.
struct GenerationPlan {
  Model::Options options;
  std::vector<Prompt> prompts;
  DrawOptions drawing;
  TokenText text = TokenText::bytes;
  ContinuationFormat format = ContinuationFormat::raw;
  std::int64_t samples = 1;  ///< of each prompt

  std::int64_t continuations() const { return std::ssize(prompts) * samples; }
};

TokenText token_text_of(const std::string& output, std::int64_t vocabulary) {
  if (output != "auto") return output == "ids" ? TokenText::ids : TokenText::bytes;
  return vocabulary >= byte_values && vocabulary <= byte_vocabulary ? TokenText::bytes : TokenText::ids;
}

ContinuationFormat format_of(const std::string& format, TokenText text, bool single) {
  if (format == "raw" || (format == "auto" && single)) return ContinuationFormat::raw;
  if (format == "jsonl" || (format == "auto" && text == TokenText::ids)) return ContinuationFormat::jsonl;
  require(text == TokenText::bytes, "--format fasta cannot hold token ids, expected jsonl or raw");
  return ContinuationFormat::fasta;
}

/// The tokens that can be drawn, ascending; empty: all. A stop can always be drawn.
std::vector<std::int32_t> allowed_tokens(const GenerateSettings& settings, TokenText text, std::int64_t vocabulary,
                                         const std::vector<std::int32_t>& stop) {
  std::vector<std::int32_t> allowed = tokens_of_bytes(settings.alphabet, vocabulary, "alphabet");
  if (allowed.empty() && text == TokenText::ids) return {};
  if (allowed.empty())
    for (std::int32_t byte = 0; byte < std::min(byte_values, vocabulary); ++byte) allowed.push_back(byte);
  allowed.insert(allowed.end(), stop.begin(), stop.end());
  std::ranges::sort(allowed);
  allowed.erase(std::ranges::unique(allowed).begin(), allowed.end());
  return allowed;
}

GenerationPlan make_plan(const GenerateSettings& settings, const Checkpoint& checkpoint) {
  GenerationPlan plan;
  plan.options.shape = model_options_of(checkpoint);
  require_tensors_of_its_model(checkpoint, false);
  plan.options.fp8 = parse_fp8_level(settings.fp8);
  plan.options.dtype = parse_dtype(settings.dtype.empty() ? checkpoint.text("dtype") : settings.dtype);
  const std::int64_t vocabulary = plan.options.shape.vocabulary;
  plan.prompts = read_prompts(settings.prompts, vocabulary);
  plan.samples = settings.samples;
  plan.text = token_text_of(settings.output, vocabulary);
  plan.format = format_of(settings.format, plan.text, plan.continuations() == 1);
  for (const std::string& ids : settings.stop)
    for (const std::int32_t id : parse_ids(ids, vocabulary, "stop")) plan.drawing.stop.push_back(id);
  plan.drawing.sampling = settings.sampling;
  plan.drawing.sampling.allowed = allowed_tokens(settings, plan.text, vocabulary, plan.drawing.stop);
  plan.drawing.tokens = settings.tokens;
  plan.drawing.seed = static_cast<std::uint64_t>(settings.seed);
  return plan;
}

/// "2 prompts of 15 tokens, SHA-256 0123456789abcdef"
std::string outline_of(const std::vector<Prompt>& prompts) {
  Sha256 hash;
  std::int64_t tokens = 0;
  for (const Prompt& prompt : prompts) {
    hash.add(prompt.ids.data(), prompt.ids.size() * sizeof(std::int32_t));
    tokens += std::ssize(prompt.ids);
    hash.add(&tokens, sizeof(tokens));
  }
  return fmt::format("{} prompts of {} tokens, SHA-256 {}", prompts.size(), tokens, hash.hexadecimal().substr(0, 16));
}

/// Removes the stop at the end of drawn tokens, and returns it.
std::optional<std::int32_t> take_stop(DrawnTokens& tokens, const std::vector<std::int32_t>& stops) {
  if (tokens.empty() || std::ranges::find(stops, tokens.back()) == stops.end()) return std::nullopt;
  const std::int32_t stop = tokens.back();
  tokens.pop_back();
  return stop;
}

/// The draws from number `first` on, in the order of prompts and samples.
std::vector<Draw> draws_from(const GenerationPlan& plan, std::int64_t first, std::int64_t count) {
  std::vector<Draw> draws;
  for (std::int64_t d = first; d < std::min(plan.continuations(), first + count); ++d)
    draws.push_back({.prompt = static_cast<std::size_t>(d / plan.samples), .sample = d % plan.samples});
  return draws;
}

}  // namespace

void generate(const GenerateSettings& settings, Communicator world, const std::function<void(std::string_view)>& emit) {
  GenerationPlan plan;
  std::optional<Checkpoint> checkpoint;
  collectively(world, [&] {
    require(world.size() == 1 || parse_shard_level(settings.shard) == ShardLevel::parameters,
            "generate runs on one rank, found {} ranks; with --shard parameters they share the weights", world.size());
  });
  checkpoint.emplace(settings.checkpoint, world);
  collectively(world, [&] { plan = make_plan(settings, *checkpoint); });
  require_same(world, "the prompts", outline_of(plan.prompts));
  const Stream stream = make_rank_stream(parse_device(settings.device), world);
  Communicator ranks(make_device_transport(world.transport(), stream));
  BatchDecoder decoder(*checkpoint, plan.options, ranks, stream);

  const bool prints = world.rank() == 0;
  if (const std::string warning = fp8_warning(*checkpoint, plan.options.fp8); !warning.empty())
    Log(world.rank()).warn("{}", warning);
  const bool as_drawn = plan.continuations() == 1 && plan.format == ContinuationFormat::raw;
  bool first = true;
  if (as_drawn && prints)
    plan.drawing.on_token = [&](std::int32_t token) {
      emit(text_of_token(token, plan.text, first));
      first = false;
    };
  std::int64_t generated = 0, prompt_tokens = 0;
  Progress progress("generate", plan.continuations(), "continuations", prints && plan.continuations() > 1);
  for (std::int64_t begin = 0; begin < plan.continuations(); begin += settings.batch) {
    const std::vector<Draw> draws = draws_from(plan, begin, settings.batch);
    std::vector<DrawnTokens> drawn = decoder.decode(plan.prompts, draws, plan.drawing);
    for (std::size_t d = 0; d < draws.size(); ++d) {
      generated += std::ssize(drawn[d]);
      const Prompt& prompt = plan.prompts[draws[d].prompt];
      if (draws[d].sample == 0) prompt_tokens += std::ssize(prompt.ids);
      const auto stop = take_stop(drawn[d], plan.drawing.stop);
      if (!as_drawn && prints)
        emit(text_of({.prompt = prompt, .sample = draws[d].sample + 1, .tokens = drawn[d], .stop = stop}, plan.format,
                     plan.text));
    }
    progress.update(begin + std::ssize(draws));
  }
  progress.finish();
  if (as_drawn && prints && plan.text == TokenText::ids) emit("\n");
  Log(world.rank())
      .info("prompt: {} tokens in {:.2f} s; generated: {} tokens in {:.2f} s, {:.1f} tokens/s", prompt_tokens,
            decoder.prefill_s(), generated, decoder.decoding_s(),
            static_cast<double>(generated) / std::max(decoder.decoding_s(), 1e-9));
}

}  // namespace causeway
