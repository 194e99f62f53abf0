// The YAML file of an Evo 2 model: refused, or a shape that is written as YAML and read again.
#include "src/convert/striped_hyena/vortex_config.hpp"

#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  VortexShape shape;
  const std::string text(text_of(data, size));
  if (!accepts([&] { shape = vortex_shape(YamlKeys(text, "model.yml")); }, {ExitCode::usage})) return 0;
  const std::string written = vortex_yaml(shape);
  holds(vortex_shape(YamlKeys(written, "written.yml")).options == shape.options, "written again it is another:\n{}",
        written);
  return 0;
}
