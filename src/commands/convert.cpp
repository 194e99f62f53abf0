#include "src/convert/convert.hpp"

#include <charconv>
#include <optional>

#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/cli/progress.hpp"
#include "src/convert/format.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

struct ConvertSettings {
  ConvertOptions options;
  std::string most_shard_size = "5GB";
};

std::string format_list() {
  std::string text;
  for (const Format& format : convert_formats())
    text += fmt::format("\n  {:<12} {}{}", format.name, format.summary, format.is_written() ? "" : "; only read");
  return text;
}

/// "5GB", "200MB", "1GiB" or a number of bytes, as in transformers.
std::int64_t bytes_of(const std::string& text) {
  struct Unit {
    std::string_view name;
    std::int64_t bytes;
  };
  constexpr Unit units[] = {{"", 1},          {"KB", 1'000},    {"MB", 1'000'000}, {"GB", 1'000'000'000},
                            {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  std::int64_t number = 0, bytes = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest(stop, static_cast<std::size_t>(text.data() + text.size() - stop));
  for (const Unit& unit : units)
    if (error == std::errc() && rest == unit.name && !__builtin_mul_overflow(number, unit.bytes, &bytes) && bytes > 0)
      return bytes;
  fail(ExitCode::usage, "--max-shard-size is '{}', expected a number of bytes, also as 200MB, 5GB or 1GiB", text);
}

CommandLine declare(ConvertSettings& settings) {
  ConvertOptions& options = settings.options;
  std::vector<std::string> from = {"auto"}, to;
  for (const Format& format : convert_formats()) {
    from.emplace_back(format.name);
    if (format.is_written()) to.emplace_back(format.name);
  }
  return {
      .usage = "SOURCE --to FORMAT --out DIRECTORY [options]",
      .description =
          "Converts a model between Causeway's checkpoints and the files of other programs. The format of SOURCE is "
          "known by its content. One tensor is in memory at a time. A tensor for which the model has no use, a missing "
          "one, another shape, or an option of the source that Causeway cannot honour is refused by name. Without "
          "--dtype every tensor keeps its type, and the way back gives the same bytes of every tensor. The result "
          "appears under its name when it is complete, or not at all.\n\nFormats:" +
          format_list(),
      .groups =
          {{"Input",
            {{"source", &options.source, "DIRECTORY|FILE", "the model to convert", {}, true},
             {"from", &options.from, "", "format of the source; auto: by its content", from},
             {"model-config", &options.model_config, "FILE",
              "the model's configuration, for formats that do not have it among their files"}}},
           {"Output",
            {{"to", &options.to, "", "format of the result", to},
             {"out", &options.out, "DIRECTORY", "the folder to write"},
             {"dtype",
              &options.dtype,
              "",
              "type of the result's tensors (in an f32 checkpoint the rates of li that come from poles are f64, so "
              "that the way back is exact); source: each keeps its own, or gets the one that an earlier conversion "
              "remembered",
              {"source", "f64", "f32", "f16", "bf16"}},
             {"max-shard-size", &settings.most_shard_size, "SIZE",
              "largest size of a file of weights; a larger model is written as several"},
             {"force", &options.force, "", "replace the folder if it exists and has only converted files"}}}},
      .examples =
          "causeway convert mamba-130m-hf --to causeway --out mamba-130m\n"
          "causeway convert runs/fine-tuned --to huggingface --out fine-tuned-hf --dtype bf16"};
}

ExitCode execute(const ConvertSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;  // one process converts, however many a launcher started
  ConvertOptions options = settings.options;
  require(!options.source.empty(), "--source is missing: expected the folder or file to convert");
  options.most_shard_bytes = bytes_of(settings.most_shard_size);
  std::optional<Progress> bar;
  options.progress = [&bar](const ConvertProgress& progress) {
    if (!bar) bar.emplace("convert", progress.total_bytes, "bytes");
    bar->update(progress.bytes, progress.parameter);
  };
  const ConvertReport report = convert(options);
  if (bar) bar->finish();
  bar.reset();
  for (const std::string& warning : report.warnings) Log().warn("{}", warning);
  print_answer(fmt::format("{}: {} model from {}, {} values in {} tensors\n", one_line(options.out), options.to,
                           report.from, grouped(report.values), report.tensors));
  return ExitCode::ok;
}

}  // namespace

Command convert_command() {
  return make_command<ConvertSettings, declare, execute>("convert",
                                                         "convert a model from or to the files of other programs");
}

}  // namespace causeway
