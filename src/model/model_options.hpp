#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The shape of a model. A preset gives it, options change it and a checkpoint records it. An option that none of the
/// model's layers uses has no effect, and is not checked against the others.
struct ModelOptions {
  std::int64_t vocabulary = 512;
  std::int64_t width = 64;
  std::vector<std::string> layers;            ///< the mixer of each block: names of the layers table
  std::int64_t state = 16;                    ///< N of the selective scan: states a channel
  std::int64_t expand = 2;                    ///< d_inner / width
  std::int64_t conv_taps = 4;                 ///< W of Mamba's short convolution
  std::int64_t dt_rank = 0;                   ///< 0: ⌈width/16⌉
  std::int64_t heads = 4;                     ///< of attention
  double rope_base = 10000;                   ///< 0: no rotary embedding
  double rope_scaling = 1;                    ///< positions are divided by it before they are rotated
  bool rope_stored = false;                   ///< attention has its rotary frequencies as a frozen parameter, inv_freq
  bool out_bias = false;                      ///< the output projection of se, mr, li and attention has a bias
  std::int64_t filter_groups = 0;             ///< G, of se and mr; 0: groups of gcd(width, 16) channels
  std::int64_t se_taps = 7, mr_taps = 128;    ///< length of the filters of se and of mr
  bool se_skip = true;                        ///< se has a skip, as mr and li have; published models' se has none
  std::string mr_decay = "weak";              ///< how fast mr's filters decay: "strong", "normal", "weak"
  std::int64_t modes = 16;                    ///< M, of li's filter: modes a channel
  std::int64_t ffn = 0;                       ///< inner width of the gated MLP after each mixer; 0: none
  std::string mlp_activation = "gelu_first";  ///< "gelu_first" or "swiglu"; see gated_mlp.hpp
  double norm_eps = 0;               ///< 0: 1e-5 (Mamba's) if every layer is mamba, else 1e-6 (StripedHyena 2's)
  std::string norm_form = "inside";  ///< of the root, where eps is added: "inside" or "outside"; see kernels/norm.hpp
  bool tied_head = true;             ///< the head's weight is the embedding's
  bool operator==(const ModelOptions&) const = default;

  std::int64_t d_inner() const { return expand * width; }
  std::int64_t rank_of_dt() const { return dt_rank > 0 ? dt_rank : (width + 15) / 16; }
  std::int64_t groups_of_filters() const;
  double eps_of_norms() const;
  bool uses(std::string_view layer) const;
  /// Throws Error(usage) with the first option that is out of range or does not fit the others.
  void check() const;
};

inline constexpr std::string_view mr_decays[] = {"strong", "normal", "weak"};
inline constexpr std::string_view mlp_activations[] = {"gelu_first", "swiglu"};
inline constexpr std::string_view norm_forms[] = {"inside", "outside"};

/// Parses "mamba mamba" or "mamba*24": names separated by spaces, each with an optional count. Throws Error(usage).
std::vector<std::string> parse_layers(std::string_view text);
/// The inverse; equal neighbours are written once with their count.
std::string layers_text(std::span<const std::string> layers);

/// A named model: attention in the layers that `attention` lists, `pattern` repeated over the others.
struct Preset {
  std::string_view name;
  std::string_view summary;
  std::int64_t width;
  std::int64_t count;                   ///< layers
  std::string_view pattern;             ///< of the other layers, in parse_layers' form
  std::span<const int> attention = {};  ///< numbers of the attention layers
  std::int64_t heads = ModelOptions{}.heads, ffn = 0, filter_groups = 0, mr_taps = ModelOptions{}.mr_taps;
  double rope_base = ModelOptions{}.rope_base;
};
std::span<const Preset> presets();
inline constexpr std::string_view default_preset = "mamba-tiny";
/// The preset's model; throws Error(usage) with the known names if there is no such preset.
ModelOptions preset_options(std::string_view name);

}  // namespace causeway
