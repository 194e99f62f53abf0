#include "src/infer/continuation.hpp"

#include <limits>
#include <nlohmann/json.hpp>

#include "io/file/utf8.hpp"
#include "kernels/core/error.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

std::string tokens_text(std::span<const std::int32_t> tokens, TokenText as) {
  std::string text;
  for (const std::int32_t token : tokens) text += text_of_token(token, as, text.empty());
  return text;
}

std::string json_line(const Continuation& continuation, TokenText as) {
  nlohmann::ordered_json line{{"name", continuation.prompt.name},
                              {"sample", continuation.sample},
                              {"prompt_tokens", continuation.prompt.ids.size()},
                              {"tokens", continuation.tokens.size()},
                              {"stop", nullptr}};
  if (continuation.stop) line["stop"] = *continuation.stop;
  const std::string text = as == TokenText::bytes ? tokens_text(continuation.tokens, as) : "";
  if (as == TokenText::bytes && is_utf8(text))
    line["text"] = text;
  else
    line["ids"] = continuation.tokens;
  return line.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string text_of_token(std::int32_t token, TokenText as, bool first) {
  if (as == TokenText::bytes) return {static_cast<char>(token)};
  return fmt::format("{}{}", first ? "" : " ", token);
}

std::string text_of(const Continuation& continuation, ContinuationFormat format, TokenText as) {
  if (format == ContinuationFormat::jsonl) return json_line(continuation, as);
  const std::string text = tokens_text(continuation.tokens, as);
  if (format == ContinuationFormat::raw) return text + "\n";
  constexpr std::size_t whole = std::numeric_limits<std::size_t>::max();
  return fmt::format(">{} sample={}\n{}\n", one_line(continuation.prompt.name), continuation.sample,
                     one_line(text, whole));
}

}  // namespace causeway
