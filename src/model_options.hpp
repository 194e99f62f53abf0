#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The shape of a model: what a preset gives, options change and a checkpoint records.
struct ModelOptions {
  std::int64_t vocabulary = 512;
  std::int64_t width = 64;
  std::vector<std::string> layers;  ///< the mixer of each block, names of the layers table
  std::int64_t state = 16;          ///< N, states a channel of the selective scan
  std::int64_t expand = 2;          ///< d_inner / width
  std::int64_t conv_taps = 4;       ///< W of the short convolution
  std::int64_t dt_rank = 0;         ///< 0: ⌈width/16⌉
  bool tied_head = true;            ///< the head is the embedding's transpose
  bool operator==(const ModelOptions&) const = default;

  std::int64_t d_inner() const { return expand * width; }
  std::int64_t rank_of_dt() const { return dt_rank > 0 ? dt_rank : (width + 15) / 16; }
  /// Throws Error(usage) naming the option that makes no model.
  void check() const;
};

/// "mamba mamba" or "mamba*24": names separated by spaces, each with an optional count.
std::vector<std::string> parse_layers(std::string_view text);
/// The inverse, runs written with their count.
std::string layers_text(std::span<const std::string> layers);

/// A named model.
struct Preset {
  std::string_view name;
  std::string_view summary;
  std::int64_t width;
  std::string_view layers;
};
std::span<const Preset> presets();
/// Throws Error(usage) naming the known ones.
ModelOptions preset_options(std::string_view name);

}  // namespace causeway
