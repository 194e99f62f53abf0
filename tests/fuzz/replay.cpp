// The fuzz targets without libFuzzer, as ordinary tests: runs one target on every file of the given folders and files.
#include <algorithm>
#include <vector>

#include "tests/fuzz/fuzz.hpp"

int main(int count, char** arguments) {
  namespace fs = std::filesystem;
  std::vector<fs::path> inputs;
  for (const fs::path argument : std::vector<std::string>(arguments + 1, arguments + count)) {
    if (fs::is_directory(argument))
      for (const fs::path& file : fs::recursive_directory_iterator(argument)) inputs.push_back(file);
    else
      inputs.push_back(argument);
  }
  std::sort(inputs.begin(), inputs.end());
  for (const fs::path& input : inputs) {
    fmt::print("{}\n", input.string());
    std::fflush(stdout);  // the last line names the input that crashed
    const std::string bytes = causeway::testing::bytes_of(input.string());
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  if (inputs.empty()) fmt::print(stderr, "no input in {}\n", count > 1 ? arguments[1] : "nothing");
  return inputs.empty() ? 1 : 0;
}
