// manifest.json: refused as damaged, or written again with exactly the same bytes.
#include "io/checkpoint/manifest.hpp"

#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  const std::string text(text_of(data, size));
  Manifest manifest;
  if (accepts([&] { manifest = Manifest::parse(text, "manifest.json"); }, {ExitCode::corrupt})) {
    holds(manifest.to_json() == text, "written again it is another");
    holds(manifest.ranks() >= 1 && manifest.bytes() >= 0, "{} ranks, {} bytes", manifest.ranks(), manifest.bytes());
  }
  return 0;
}
