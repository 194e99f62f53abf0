#include <array>

#include "kernels/core/error.hpp"
#include "src/convert/format.hpp"
#include "src/convert/parameter_source.hpp"

namespace causeway {
namespace {

constexpr std::array table = {
    Format{"causeway", "a checkpoint, or a run, which means its latest checkpoint", false, is_causeway, nullptr,
           nullptr},
    Format{"huggingface", "folder of config.json (model_type mamba) and safetensors", false, is_huggingface,
           open_huggingface, huggingface_layout},
    Format{"mamba_ssm", "folder of mamba_ssm's config.json and pytorch_model.bin or safetensors", false, is_mamba_ssm,
           open_mamba_ssm, nullptr},
    Format{"vortex", "Evo 2 as published: a .pt file, its parts or their folder, or safetensors, and --model-config",
           true, is_vortex, open_vortex, vortex_layout},
    Format{"savanna", "Evo 2's training program: a .pt file and --model-config", true, is_savanna, open_savanna,
           nullptr},
};

}  // namespace

std::span<const Format> convert_formats() { return table; }

const Format& find_convert_format(std::string_view name, std::string_view what) {
  std::string known;
  for (const Format& format : table) {
    if (format.name == name) return format;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", format.name);
  }
  fail(ExitCode::usage, "{} is '{}', expected one of: {}", what, name, known);
}

}  // namespace causeway
