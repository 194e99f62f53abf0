// `causeway import` of token ids in binary files: Megatron-LM's index and tokens, or numpy's array with its boundaries
// and mask. Writes a dataset that verifies, or throws Error and leaves no file. The first byte chooses the format, the
// next two say where the first file ends, two more where the second one ends.
#include <algorithm>

#include "io/data/dataset.hpp"
#include "io/data/import.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace causeway;
  using namespace causeway::fuzz;
  constexpr std::size_t head = 5;
  if (size < head) return 0;
  static const causeway::testing::TemporaryFolder folder;
  const bool megatron = data[0] % 2 == 0;
  std::string_view rest = text_of(data + head, size - head);
  const auto next_file = [&](std::size_t at) {
    const std::size_t bytes = std::min<std::size_t>(rest.size(), data[at] | data[at + 1] << 8);
    const std::string_view text = rest.substr(0, bytes);
    rest.remove_prefix(bytes);
    return text;
  };
  std::vector<std::string> files = {folder.write(megatron ? "a.idx" : "a.npy", next_file(1))};
  const std::string_view second = next_file(3);
  if (megatron || !second.empty()) files.push_back(folder.write(megatron ? "a.bin" : "a.cu_seqlens.npy", second));
  if (!megatron && !rest.empty()) files.push_back(folder.write("a.loss_mask.npy", rest));
  const std::string out = folder / "data.h5";
  ImportOptions options;
  options.files = {files[0]};
  options.out = out;
  options.skip_bad = (data[0] & 2) != 0;
  options.transform.mask_ambiguous = (data[0] & 4) != 0;
  const bool imported = accepts([&] { import_files(options); }, {ExitCode::usage});
  holds(folder.count() == files.size() + (imported ? 1 : 0), "{} files", folder.count());
  if (imported) {
    holds(accepts([&] { Dataset(out).verify(); }, {}), "what was imported cannot be read");
    std::filesystem::remove(out);
  }
  for (const std::string& file : files) std::filesystem::remove(file);
  return 0;
}
