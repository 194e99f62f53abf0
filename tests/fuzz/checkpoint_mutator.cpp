// Mutates one file of a checkpoint and, in three of four cases, corrects its checksums.
#include "tests/fuzz/checkpoint_files.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/fuzz/hdf5_repair.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed);

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed) {
  using namespace causeway::fuzz;
  std::vector<std::string> files = files_of(text_of(data, size), checkpoint_files);
  std::string& file = files[seed / 4 % files.size()];
  const std::size_t before = file.size(), room = std::max(before, limit > size ? before + (limit - size) : before);
  file.resize(room);
  auto* bytes = reinterpret_cast<std::uint8_t*>(file.data());
  file.resize(LLVMFuzzerMutate(bytes, before, room));
  if (seed % 4 != 0) Hdf5Repair({reinterpret_cast<std::uint8_t*>(file.data()), file.size()}).all();
  const std::string input = input_of(files);
  if (input.size() > limit) return size;
  std::copy(input.begin(), input.end(), data);
  return input.size();
}
