// Mutates an HDF5 file and, in three of four cases, corrects its checksums.
#include "tests/fuzz/fuzz.hpp"
#include "tests/fuzz/hdf5_repair.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed);

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed) {
  const std::size_t mutated = LLVMFuzzerMutate(data, size, limit);
  if (seed % 4 != 0) causeway::fuzz::Hdf5Repair({data, mutated}).all();
  return mutated;
}
