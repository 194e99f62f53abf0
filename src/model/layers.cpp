#include "src/model/layer.hpp"

namespace causeway {
namespace {

constexpr Layer table[] = {
    {"se", "short gated convolution of StripedHyena 2, explicit filter (arXiv 2503.01868)", make_se},
    {"mr", "medium gated convolution of StripedHyena 2, explicit filter with decay", make_mr},
    {"li", "long gated convolution of StripedHyena 2, filter a sum of decaying modes", make_li},
    {"attention", "multi-head attention with rotary positions", make_attention},
    {"mamba", "Mamba-1: short convolution and selective scan (arXiv 2312.00752)", make_mamba},
};

}  // namespace

std::span<const Layer> layers() { return table; }

const Layer& find_layer(std::string_view name) {
  std::string known;
  for (const Layer& layer : table) {
    if (layer.name == name) return layer;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", layer.name);
  }
  fail(ExitCode::usage, "--layers has '{}', expected one of: {}", name, known);
}

}  // namespace causeway
