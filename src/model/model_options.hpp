#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The shape of a model: what a preset gives, options change and a checkpoint records. An option that no layer of the
/// model has a use for means nothing, and is not checked against the others.
struct ModelOptions {
  std::int64_t vocabulary = 512;
  std::int64_t width = 64;
  std::vector<std::string> layers;  ///< the mixer of each block, names of the layers table
  std::int64_t state = 16;          ///< N, states a channel of the selective scan
  std::int64_t expand = 2;          ///< d_inner / width
  std::int64_t conv_taps = 4;       ///< W of Mamba's short convolution
  std::int64_t dt_rank = 0;         ///< 0: ⌈width/16⌉
  std::int64_t heads = 4;           ///< of attention
  double rope_base = 10000;         ///< 0: no rotary embedding
  std::int64_t filter_groups = 0;   ///< of se and mr; 0: groups of 16 channels, or of their largest common divisor
  std::int64_t se_taps = 7, mr_taps = 128;
  std::string mr_decay = "weak";              ///< how fast mr's groups forget at first: "strong", "normal", "weak"
  std::int64_t modes = 16;                    ///< of li's filter, a channel
  std::int64_t ffn = 0;                       ///< inner width of the gated MLP after each mixer; 0: none
  std::string mlp_activation = "gelu_first";  ///< of its gate: GELU in the first layer and none after it, or "swiglu"
  double norm_eps = 0;    ///< 0: Mamba's 1e-5 where every layer is mamba, else StripedHyena 2's 1e-6
  bool tied_head = true;  ///< the head is the embedding's transpose
  bool operator==(const ModelOptions&) const = default;

  std::int64_t d_inner() const { return expand * width; }
  std::int64_t rank_of_dt() const { return dt_rank > 0 ? dt_rank : (width + 15) / 16; }
  std::int64_t groups_of_filters() const;
  double eps_of_norms() const;
  bool uses(std::string_view layer) const;
  /// Throws Error(usage) naming the option that makes no model.
  void check() const;
};

inline constexpr std::string_view mr_decays[] = {"strong", "normal", "weak"};
inline constexpr std::string_view mlp_activations[] = {"gelu_first", "swiglu"};

/// "mamba mamba" or "mamba*24": names separated by spaces, each with an optional count.
std::vector<std::string> parse_layers(std::string_view text);
/// The inverse, runs written with their count.
std::string layers_text(std::span<const std::string> layers);

/// A named model: a pattern of layers repeated, and attention where it says.
struct Preset {
  std::string_view name;
  std::string_view summary;
  std::int64_t width;
  std::int64_t count;        ///< layers
  std::string_view pattern;  ///< of the layers that are not attention
  std::span<const int> attention = {};
  std::int64_t heads = ModelOptions{}.heads, ffn = 0, filter_groups = 0, mr_taps = ModelOptions{}.mr_taps;
  double rope_base = ModelOptions{}.rope_base;
};
std::span<const Preset> presets();
inline constexpr std::string_view default_preset = "mamba-tiny";
/// Throws Error(usage) naming the known ones.
ModelOptions preset_options(std::string_view name);

}  // namespace causeway
