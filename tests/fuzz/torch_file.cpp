// A file of torch.save, or only its pickle, which is put into a valid archive: refused, or tensors that can be read.
#include "io/tensors/torch_file.hpp"

#include <vector>

#include "tests/fuzz/fuzz.hpp"
#include "tests/support/torch_archive.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  static const causeway::testing::TemporaryFolder folder;
  std::string bytes(text_of(data, size));
  if (!bytes.starts_with("PK")) {
    const std::string storages[] = {std::string(48, '\1'), std::string(16, '\2')};
    bytes = causeway::testing::zip_archive(causeway::testing::torch_members(bytes, storages));
  }
  const std::string path = folder.write("model.pt", bytes);
  accepts(
      [&] {
        const TensorFiles files = read_torch_file(path);
        for (const FileTensor& tensor : files.tensors()) {
          holds(tensor.bytes() <= std::ssize(bytes), "'{}' has {} bytes in a file of {}", tensor.name, tensor.bytes(),
                bytes.size());
          std::vector<std::byte> elements(static_cast<std::size_t>(tensor.bytes()));
          files.read(tensor, elements);
        }
      },
      {ExitCode::usage, ExitCode::corrupt});
  return 0;
}
