// A file of safetensors: refused, or tensors that can be read and together fill the data.
#include "io/tensors/safetensors.hpp"

#include <vector>

#include "tests/fuzz/fuzz.hpp"
#include "tests/support/safetensors_text.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  static const causeway::testing::TemporaryFolder folder;
  std::string bytes(text_of(data, size));
  // A header alone gets a fitting size, and 64 bytes of data.
  if (bytes.starts_with('{')) bytes = causeway::testing::safetensors(bytes, std::string(64, '\1'));
  const std::string path = folder.write("x.safetensors", bytes);
  accepts(
      [&] {
        const TensorFiles files = read_safetensors(path);
        std::int64_t total = 0;
        for (const FileTensor& tensor : files.tensors()) {
          total += tensor.bytes();
          holds(total <= std::ssize(bytes), "its tensors have {} bytes in a file of {}", total, bytes.size());
          std::vector<std::byte> elements(static_cast<std::size_t>(tensor.bytes()));
          files.read(tensor, elements);
        }
      },
      {ExitCode::usage, ExitCode::corrupt});
  return 0;
}
