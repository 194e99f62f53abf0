#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace causeway {

/// The start of a document that a model continues.
struct Prompt {
  std::string name;
  std::vector<std::int32_t> ids;  ///< at least one
};

/// Where prompts come from: one of the texts is not empty.
struct PromptSource {
  std::string text;                  ///< --prompt: its bytes
  std::string file;                  ///< --prompt-file: all bytes of a file
  std::string ids;                   ///< --prompt-ids: decimal token ids with blanks or commas between them
  std::string list;                  ///< --prompts: a file of many
  std::string list_format = "auto";  ///< of `list`: fasta, lines, ids; auto: fasta if it starts with '>', else lines
};

/// Reads the prompts. Byte b is token b. Throws Error(usage) with the option for none or several sources, an empty
/// prompt, a token that is not below `vocabulary`, and more than 2^28 tokens in all.
std::vector<Prompt> read_prompts(const PromptSource& source, std::int64_t vocabulary);

}  // namespace causeway
