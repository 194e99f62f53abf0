#include "src/infer/generator.hpp"

#include <chrono>
#include <optional>

#include "src/cli/log.hpp"
#include "src/cli/text_file.hpp"
#include "src/model/model_checkpoint.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/wall_clock.hpp"

namespace causeway {
namespace {

constexpr std::int64_t byte_vocabulary = 512, bytes = 256;
/// Tokens of the prompt that are computed at a time: enough for efficient kernels, and the memory does not depend on
/// the prompt's length.
constexpr std::int64_t prompt_piece = 16384;
constexpr std::size_t longest_prompt = std::size_t{1} << 30;

std::string prompt_of(const GenerateSettings& settings) {
  const bool in_file = !settings.prompt_file.empty();
  require(settings.prompt.empty() || !in_file, "--prompt and --prompt-file exclude each other");
  const std::string prompt =
      in_file ? read_bytes(settings.prompt_file, "--prompt-file", longest_prompt) : settings.prompt;
  require(!prompt.empty(), "{} is empty, expected at least one byte",
          in_file ? fmt::format("--prompt-file {}", settings.prompt_file) : "--prompt");
  return prompt;
}

/// A checkpoint's model, and one document with its decode state.
class TextDecoder {
 public:
  TextDecoder(const Checkpoint& checkpoint, const Model::Options& options, const Stream& stream)
      : stream_(stream),
        model_(options),
        logits_(stream, accumulator_of(options.dtype), {1, options.shape.vocabulary}) {
    model_.parameters().allocate(stream, 1, false);
    load_parameters(checkpoint, model_.parameters(), stream);
  }

  /// Appends the text to the document.
  void append(std::string_view text) {
    model_.extend(stream_, on_device<std::int32_t>(stream_, ids_of(text)), document_, logits_);
  }

  /// The logits of the 256 bytes for the next token. Ids above 255 are left out: they are never drawn.
  std::vector<double> logits() const {
    std::vector<double> values = host_values<double>(stream_, logits_);
    values.resize(bytes);
    return values;
  }

 private:
  static std::vector<std::int32_t> ids_of(std::string_view text) {
    std::vector<std::int32_t> ids;
    for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
    return ids;
  }

  const Stream& stream_;
  Model model_;
  DocumentState document_;
  Tensor logits_;  // (1, vocabulary), of the token after the document
};

}  // namespace

void generate(const GenerateSettings& settings, Communicator world, const std::function<void(std::string_view)>& emit) {
  Model::Options options;
  std::optional<Checkpoint> checkpoint;
  std::string prompt;
  collectively(world, [&] {
    require(world.size() == 1, "generate runs on one rank, found {} ranks", world.size());
    prompt = prompt_of(settings);
    checkpoint.emplace(settings.checkpoint);
    options.shape = model_options_of(*checkpoint);
    require_tensors_of_its_model(*checkpoint, false);
    options.dtype = parse_dtype(settings.dtype.empty() ? checkpoint->text("dtype") : settings.dtype);
    require(options.shape.vocabulary == byte_vocabulary,
            "{}: the checkpoint's vocabulary is {}, expected {} (bytes): generate reads and writes text",
            checkpoint->path(), options.shape.vocabulary, byte_vocabulary);
  });
  const Stream stream(parse_device(settings.device));
  TextDecoder decoder(*checkpoint, options, stream);

  const WallClock prefill;
  for (std::size_t begin = 0; begin < prompt.size(); begin += prompt_piece)
    decoder.append(std::string_view(prompt).substr(begin, prompt_piece));
  const double prefill_s = prefill.seconds();

  const WallClock decoding;
  const RandomStream random(static_cast<std::uint64_t>(settings.seed), 0);
  for (std::int64_t i = 0; i < settings.tokens; ++i) {
    const char next =
        static_cast<char>(sample(decoder.logits(), settings.sampling, random.uniform(static_cast<std::uint64_t>(i))));
    emit({&next, 1});
    if (i + 1 < settings.tokens) decoder.append({&next, 1});
  }
  const double decoding_s = decoding.seconds();
  Log().info("prompt: {} tokens in {:.2f} s; generated: {} tokens in {:.2f} s, {:.1f} tokens/s", prompt.size(),
             prefill_s, settings.tokens, decoding_s, static_cast<double>(settings.tokens) / std::max(decoding_s, 1e-9));
}

}  // namespace causeway
