#include "src/infer/prompts.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include "io/data/readers/reader.hpp"
#include "src/cli/text_file.hpp"
#include "src/infer/token_lists.hpp"

namespace causeway {
namespace {

constexpr std::int64_t most_tokens = std::int64_t{1} << 28;

void check_prompt(const Prompt& prompt, std::int64_t vocabulary, const std::string& where) {
  require(!prompt.ids.empty(), "{} is empty, expected at least one token", where);
  const auto above = std::ranges::find_if(prompt.ids, [&](std::int32_t id) { return id >= vocabulary; });
  if (above != prompt.ids.end())
    fail(ExitCode::usage, "{}: token {} is {}, expected less than the model's vocabulary of {}", where,
         above - prompt.ids.begin(), *above, vocabulary);
}

Prompt prompt_of_bytes(const std::string& bytes) {
  Prompt prompt{.name = "prompt", .ids = {}};
  for (const char byte : bytes) prompt.ids.push_back(static_cast<unsigned char>(byte));
  return prompt;
}

/// "fasta" or "lines", by the file's first character that is no blank.
std::string format_of(const std::string& path) {
  std::error_code ignored;
  const auto type = std::filesystem::status(path, ignored).type();
  using enum std::filesystem::file_type;
  // The file is opened again for its prompts: what is read here from a pipe would be lost.
  require(path != "-" && type != fifo && type != character && type != socket,
          "--prompts {}: expected --prompts-format fasta, lines or ids for standard input and pipes", path);
  LineReader reader(path);
  for (std::string_view bytes = reader.next_bytes(); !bytes.empty(); bytes = reader.next_bytes()) {
    const std::size_t found = bytes.find_first_not_of(" \t\r\n");
    if (found != bytes.npos) return bytes[found] == '>' ? "fasta" : "lines";
  }
  return "lines";
}

std::vector<Prompt> read_list(const PromptSource& source, std::int64_t vocabulary) {
  const std::string format = source.list_format == "auto" ? format_of(source.list) : source.list_format;
  std::vector<Prompt> prompts;
  std::int64_t tokens = 0;
  DocumentSink sink;
  sink.vocabulary_size = vocabulary;
  sink.begin_document = [&](const std::string& name) { prompts.push_back({.name = name, .ids = {}}); };
  sink.end_document = [] {};
  sink.append_tokens = [&](std::span<const std::int32_t> ids, std::span<const float>) {
    tokens += std::ssize(ids);
    require(tokens <= most_tokens, "--prompts {}: has more than {} tokens, expected at most that many", source.list,
            most_tokens);
    prompts.back().ids.insert(prompts.back().ids.end(), ids.begin(), ids.end());
  };
  LineReader lines(source.list);
  (format == "fasta" ? read_fasta : format == "ids" ? read_tokens : read_lines)(lines, ReaderOptions(), sink);
  sink.end();
  sink.require_vocabulary();
  require(!prompts.empty(), "--prompts {}: has no prompt", source.list);
  for (const Prompt& prompt : prompts)
    check_prompt(prompt, vocabulary, fmt::format("--prompts {}: '{}'", source.list, prompt.name));
  return prompts;
}

}  // namespace

std::vector<Prompt> read_prompts(const PromptSource& source, std::int64_t vocabulary) {
  const std::array given{&source.text, &source.file, &source.ids, &source.list};
  const auto count = std::ranges::count_if(given, [](const std::string* text) { return !text->empty(); });
  require(count > 0, "--prompt is empty, expected at least one byte, or --prompt-file, --prompt-ids or --prompts");
  require(count == 1, "--prompt, --prompt-file, --prompt-ids and --prompts exclude each other");
  if (!source.list.empty()) return read_list(source, vocabulary);
  Prompt prompt;
  std::string where = "--prompt";
  if (!source.ids.empty()) {
    where = "--prompt-ids";
    prompt = {.name = "prompt", .ids = parse_ids(source.ids, vocabulary, "prompt-ids")};
  } else if (!source.file.empty()) {
    where = fmt::format("--prompt-file {}", source.file);
    prompt = prompt_of_bytes(read_bytes(source.file, "--prompt-file", most_tokens));
  } else {
    prompt = prompt_of_bytes(source.text);
  }
  check_prompt(prompt, vocabulary, where);
  return {std::move(prompt)};
}

}  // namespace causeway
