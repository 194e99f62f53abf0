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
/// Tokens of the prompt that are computed at a time: enough for efficient kernels, and no more memory for a longer
/// prompt.
constexpr std::int64_t prompt_piece = 16384;
constexpr std::size_t longest_prompt = std::size_t{1} << 30;

std::string prompt_of(const GenerateSettings& settings) {
  const bool in_file = !settings.prompt_file.empty();
  require(settings.prompt.empty() || !in_file, "--prompt and --prompt-file exclude each other");
  const std::string prompt =
      in_file ? read_bytes(settings.prompt_file, "--prompt-file", longest_prompt) : settings.prompt;
  require(!prompt.empty(), "{} is empty: a model continues at least one byte",
          in_file ? fmt::format("--prompt-file {}", settings.prompt_file) : "--prompt");
  return prompt;
}

/// A checkpoint's model with one document in it.
class Author {
 public:
  Author(const Checkpoint& checkpoint, const Model::Options& options, const Stream& stream)
      : stream_(stream),
        model_(options),
        logits_(stream, accumulator_of(options.dtype), {1, options.shape.vocabulary}) {
    model_.parameters().allocate(stream, 1, false);
    load_parameters(checkpoint, model_.parameters(), stream);
  }

  void read(std::string_view text) {
    model_.extend(stream_, on_device<std::int32_t>(stream_, ids_of(text)), document_, logits_);
  }

  /// Of the bytes that may come next.
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
  GrowingDocument document_;
  Tensor logits_;
};

}  // namespace

void generate(const GenerateSettings& settings, Communicator world, const std::function<void(std::string_view)>& emit) {
  Model::Options options;
  std::optional<Checkpoint> checkpoint;
  std::string prompt;
  collectively(world, [&] {
    require(world.size() == 1, "generate continues one document on one rank, found {} ranks", world.size());
    prompt = prompt_of(settings);
    checkpoint.emplace(settings.checkpoint);
    options.shape = model_options_of(*checkpoint);
    options.dtype = parse_dtype(settings.dtype.empty() ? checkpoint->text("dtype") : settings.dtype);
    require(options.shape.vocabulary == byte_vocabulary,
            "{}: the checkpoint's vocabulary is {}, expected {}, that of bytes: generate reads and writes text",
            checkpoint->path(), options.shape.vocabulary, byte_vocabulary);
  });
  const Stream stream(parse_device(settings.device));
  Author author(*checkpoint, options, stream);

  const WallClock reading;
  for (std::size_t begin = 0; begin < prompt.size(); begin += prompt_piece)
    author.read(std::string_view(prompt).substr(begin, prompt_piece));
  const double read_s = reading.seconds();

  const WallClock writing;
  const RandomStream random(static_cast<std::uint64_t>(settings.seed), 0);
  for (std::int64_t i = 0; i < settings.tokens; ++i) {
    const char next =
        static_cast<char>(sample(author.logits(), settings.sampling, random.uniform(static_cast<std::uint64_t>(i))));
    emit({&next, 1});
    if (i + 1 < settings.tokens) author.read({&next, 1});
  }
  const double written_s = writing.seconds();
  Log().info("prompt: {} tokens in {:.2f} s; generated: {} tokens in {:.2f} s, {:.1f} tokens/s", prompt.size(), read_s,
             settings.tokens, written_s, static_cast<double>(settings.tokens) / std::max(written_s, 1e-9));
}

}  // namespace causeway
