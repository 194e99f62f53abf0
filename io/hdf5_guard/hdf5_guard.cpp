#include "io/hdf5_guard/hdf5_guard.hpp"

#include "io/hdf5_guard/global_heap.hpp"
#include "io/hdf5_guard/object_checker.hpp"

namespace causeway::hdf5_guard {

FileGuard::FileGuard(const std::string& path, ExitCode damaged)
    : objects_(std::make_unique<ObjectChecker>(path, damaged)) {}

FileGuard::~FileGuard() = default;

void FileGuard::check_object(std::uint64_t address, const std::string& where) {
  objects_->check_object(address, where);
}

StringReader::StringReader(const std::string& path, const std::string& where, ExitCode damaged)
    : heap_(std::make_unique<GlobalHeap>(path, FileLocation{where, damaged})) {}

StringReader::~StringReader() = default;

void StringReader::check(std::span<const std::byte> references) {
  for (std::size_t begin = 0; begin + reference_bytes <= references.size(); begin += reference_bytes)
    heap_->check_reference(references.subspan(begin).first<reference_bytes>(), 1);
}

void StringReader::check_in_file(std::uint64_t address, std::uint64_t count) {
  check(heap_->read_file(address, count * reference_bytes));
}

std::string StringReader::read(std::span<const std::byte, reference_bytes> reference) {
  return heap_->read_string(reference);
}

}  // namespace causeway::hdf5_guard
