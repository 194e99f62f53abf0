#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace causeway::fuzz {

/// The files of a checkpoint in one input. Before each file except the last are three bytes with its length.
inline std::vector<std::string> files_of(std::string_view input, std::size_t count) {
  std::vector<std::string> files;
  for (std::size_t f = 0; f < count; ++f) {
    std::size_t length = input.size();
    if (f + 1 < count) {
      std::size_t claimed = 0;
      for (std::size_t i = 0; i < 3 && i < input.size(); ++i)
        claimed |= static_cast<std::size_t>(static_cast<unsigned char>(input[i])) << (8 * i);
      input.remove_prefix(std::min<std::size_t>(3, input.size()));
      length = std::min(claimed, input.size());
    }
    files.emplace_back(input.substr(0, length));
    input.remove_prefix(length);
  }
  return files;
}

inline std::string input_of(const std::vector<std::string>& files) {
  std::string input;
  for (std::size_t f = 0; f < files.size(); ++f) {
    if (f + 1 < files.size())
      for (int i = 0; i < 3; ++i) input += static_cast<char>(files[f].size() >> (8 * i));
    input += files[f];
  }
  return input;
}

/// index.h5 and the shards of two ranks.
inline constexpr std::size_t checkpoint_files = 3;

}  // namespace causeway::fuzz
