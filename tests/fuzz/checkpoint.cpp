// A checkpoint of two ranks with a manifest that fits its mutated files, as an attacker would write it: every tensor is
// read, or opening or reading throws Error. (Files that do not fit the manifest:
// tests/io/checkpoint/test_checkpoint.cpp.)
#include "io/checkpoint/checkpoint.hpp"

#include "io/file/sha256.hpp"
#include "tests/fuzz/checkpoint_files.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  static const causeway::testing::TemporaryFolder folder;
  Manifest manifest{.step = 3};
  std::int64_t number = 0;
  for (const std::string& file : files_of(text_of(data, size), checkpoint_files)) {
    folder.write(checkpoint_file(number++), file);
    manifest.files.push_back({static_cast<std::int64_t>(file.size()), sha256_of(file)});
  }
  folder.write(manifest_name, manifest.to_json());
  accepts(
      [&] {
        const Checkpoint checkpoint(folder / "");
        checkpoint.state().attribute_names();
        for (const Checkpoint::TensorInfo& tensor : checkpoint.tensors()) {
          constexpr std::int64_t most = 1 << 20;
          std::vector<double> values(static_cast<std::size_t>(std::min(tensor.size(), most)));
          checkpoint.read(tensor.name, 0, values);
        }
      },
      {ExitCode::corrupt, ExitCode::usage});
  return 0;
}
