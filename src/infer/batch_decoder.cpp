#include "src/infer/batch_decoder.hpp"

#include <algorithm>

#include "kernels/core/random.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/wall_clock.hpp"

namespace causeway {
namespace {

/// Tokens of prompts that are computed at a time: enough for efficient kernels, and the memory does not depend on the
/// prompts' length.
constexpr std::int64_t prompt_piece = 16384;

RandomStream random_of(const Draw& draw, std::uint64_t seed) {
  return {seed, (static_cast<std::uint64_t>(draw.prompt) << 32) + static_cast<std::uint64_t>(draw.sample)};
}

}  // namespace

BatchDecoder::BatchDecoder(const Checkpoint& checkpoint, const Model::Options& options, Communicator& ranks,
                           const Stream& stream)
    : ranks_(ranks), stream_(stream), model_(options) {
  model_.parameters().allocate(stream, ranks, {.level = ShardLevel::parameters, .gradients = false});
  collectively(ranks, [&] { load_parameters(checkpoint, model_.parameters(), stream); });
}

void BatchDecoder::extend(std::span<Document* const> documents, std::span<const std::int64_t> counts,
                          std::span<const std::int32_t> ids) {
  const std::int64_t vocabulary = model_.options().shape.vocabulary;
  std::vector<Model::Extension> extensions;
  for (std::size_t d = 0; d < documents.size(); ++d) extensions.push_back({documents[d]->state, counts[d]});
  const Tensor logits(stream_, accumulator_of(model_.options().dtype), {std::ssize(documents), vocabulary});
  model_.extend(stream_, on_device<std::int32_t>(stream_, ids), extensions, logits);
  std::vector<double> values = host_values<double>(stream_, logits);
  // Processors of different kinds may round differently, but the ranks must draw the same tokens.
  if (ranks_.size() > 1) ranks_.broadcast(std::as_writable_bytes(std::span(values)), 0, Stream());
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const auto row = values.begin() + static_cast<std::ptrdiff_t>(d) * vocabulary;
    documents[d]->logits.assign(row, row + vocabulary);
  }
}

void BatchDecoder::compute_prompts(std::span<const Prompt* const> prompts, std::span<Document* const> documents) {
  std::size_t first = 0;
  std::int64_t done = 0;  // tokens of prompt `first`
  while (first < prompts.size()) {
    std::vector<Document*> part;
    std::vector<std::int64_t> counts;
    std::vector<std::int32_t> ids;
    while (first < prompts.size() && std::ssize(ids) < prompt_piece) {
      const std::vector<std::int32_t>& prompt = prompts[first]->ids;
      const std::int64_t count = std::min(prompt_piece - std::ssize(ids), std::ssize(prompt) - done);
      part.push_back(documents[first]);
      counts.push_back(count);
      ids.insert(ids.end(), prompt.begin() + done, prompt.begin() + done + count);
      done += count;
      if (done < std::ssize(prompt)) break;
      ++first;
      done = 0;
    }
    extend(part, counts, ids);
  }
}

std::vector<BatchDecoder::Document> BatchDecoder::prefill(std::span<const Prompt> prompts,
                                                          std::span<const Draw> draws) {
  const auto repeats = [&](std::size_t d) { return d > 0 && draws[d].prompt == draws[d - 1].prompt; };
  std::vector<Document> documents(draws.size());
  std::vector<const Prompt*> computed;
  std::vector<Document*> first_of_each;
  for (std::size_t d = 0; d < draws.size(); ++d) {
    if (repeats(d)) continue;
    computed.push_back(&prompts[draws[d].prompt]);
    first_of_each.push_back(&documents[d]);
  }
  compute_prompts(computed, first_of_each);
  for (std::size_t d = 0; d < draws.size(); ++d)
    if (repeats(d))
      documents[d] = {.state = copy_of(stream_, documents[d - 1].state), .logits = documents[d - 1].logits};
  return documents;
}

std::vector<DrawnTokens> BatchDecoder::decode(std::span<const Prompt> prompts, std::span<const Draw> draws,
                                              const DrawOptions& options) {
  const WallClock prefilling;
  std::vector<Document> documents = prefill(prompts, draws);
  prefill_s_ += prefilling.seconds();

  const WallClock decoding;
  std::vector<DrawnTokens> drawn(draws.size());
  std::vector<std::size_t> active(draws.size());
  for (std::size_t d = 0; d < draws.size(); ++d) active[d] = d;
  for (std::int64_t i = 0; i < options.tokens && !active.empty(); ++i) {
    std::erase_if(active, [&](std::size_t d) {
      const double uniform = random_of(draws[d], options.seed).uniform(static_cast<std::uint64_t>(i));
      const auto token = static_cast<std::int32_t>(sample(documents[d].logits, options.sampling, uniform));
      drawn[d].push_back(token);
      const bool stops = std::ranges::find(options.stop, token) != options.stop.end();
      if (!stops && options.on_token) options.on_token(token);
      if (stops) documents[d] = {};
      return stops;
    });
    if (i + 1 == options.tokens || active.empty()) break;
    std::vector<Document*> next;
    std::vector<std::int32_t> ids;
    for (const std::size_t d : active) {
      next.push_back(&documents[d]);
      ids.push_back(drawn[d].back());
    }
    extend(next, std::vector<std::int64_t>(next.size(), 1), ids);
  }
  decoding_s_ += decoding.seconds();
  return drawn;
}

}  // namespace causeway
