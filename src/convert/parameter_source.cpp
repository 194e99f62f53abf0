#include "src/convert/parameter_source.hpp"

#include "io/file/look_up.hpp"
#include "io/tensors/file_parts.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

const Format& format_of(const ConvertSource& source, const std::string& from) {
  if (from != "auto") return find_convert_format(from, "--from");
  std::string known;
  for (const Format& format : convert_formats()) {
    if (format.recognises(source)) return format;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", format.name);
  }
  fail(ExitCode::usage, "{}: its format is not known by its content, expected --from with one of: {}", source.path,
       known);
}

}  // namespace

ParameterSource open_parameter_source(const ConvertSource& source, const std::string& from) {
  require(is_there(parts_of_file(source.path).front()), "{}: {}", source.path,
          why_missing(source.path, "file or folder"));
  const Format& format = format_of(source, from);
  require(source.model_config.empty() || format.takes_model_config,
          "--model-config is '{}', but {} is a {} model, which has a configuration of its own", source.model_config,
          source.path, format.name);
  if (format.is_causeway()) return checkpoint_parameters(source.path);
  return foreign_parameters(std::make_shared<const ForeignModel>(format.open(source)), source, format.name);
}

}  // namespace causeway
