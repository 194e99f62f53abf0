#include "io/hdf5_guard/global_heap.hpp"

#include <utility>

#include "kernels/core/integer.hpp"

namespace causeway::hdf5_guard {
namespace {

constexpr std::uint64_t header_bytes = 16;  // of a collection and of each object in it
constexpr std::uint64_t smallest_collection = 4096, largest_collection = std::uint64_t{256} << 20;
constexpr std::string_view signature("GCOL\1", 5);

}  // namespace

GlobalHeap::GlobalHeap(const std::string& path, FileLocation location) : location_(std::move(location)), file_(path) {}

std::vector<std::byte> GlobalHeap::read_file(std::uint64_t address, std::uint64_t count) {
  return file_.read(address, count, location_);
}

std::span<const std::byte> GlobalHeap::find_referenced(std::span<const std::byte, reference_bytes> reference,
                                                       std::uint64_t element_bytes) {
  FieldReader fields(reference, location_);
  const std::uint64_t length = fields.number(4), address = fields.address(), index = fields.number(4);
  if (address == 0) return {};  // a null reference
  const auto object = find_object(address, index);
  location_.require(object.size() == length * element_bytes,
                    "object {} of the heap collection at {} has {} bytes, but a reference to it says {}", index,
                    address, object.size(), length * element_bytes);
  return object;
}

void GlobalHeap::check_reference(std::span<const std::byte, reference_bytes> reference, std::uint64_t element_bytes) {
  referenced_bytes_ += find_referenced(reference, element_bytes).size();
  location_.require(referenced_bytes_ <= file_.size(),
                    "its references name more than {} bytes on the heap, the size of the whole file", file_.size());
}

std::string GlobalHeap::read_string(std::span<const std::byte, reference_bytes> reference) {
  const auto object = find_referenced(reference, 1);
  const std::string_view text(reinterpret_cast<const char*>(object.data()), object.size());
  return std::string(text.substr(0, text.find('\0')));
}

std::vector<std::byte> GlobalHeap::read_object(std::uint64_t address, std::uint64_t index) {
  const auto object = find_object(address, index);
  return {object.begin(), object.end()};
}

std::span<const std::byte> GlobalHeap::find_object(std::uint64_t address, std::uint64_t index) {
  const Collection& collection = collection_at(address);
  const auto found = collection.objects.find(index);
  location_.require(found != collection.objects.end(), "the heap collection at {} has no object {}", address, index);
  return found->second;
}

const GlobalHeap::Collection& GlobalHeap::collection_at(std::uint64_t address) {
  constexpr std::uint64_t most_kept_bytes = std::uint64_t{32} << 20;
  const auto found = collections_.find(address);
  if (found != collections_.end()) return found->second;
  Collection collection = load_collection(address);
  if (collection_bytes_ + collection.bytes.size() > most_kept_bytes) {
    collections_.clear();
    collection_bytes_ = 0;
  }
  collection_bytes_ += collection.bytes.size();
  return collections_.emplace(address, std::move(collection)).first->second;
}

/// Lists a collection's objects, which follow each other without gaps.
GlobalHeap::Collection GlobalHeap::load_collection(std::uint64_t address) {
  const auto header = file_.read(address, header_bytes, location_);
  FieldReader head(header, location_);
  head.signature(signature);
  head.skip(3);
  const std::uint64_t size = head.number(8);
  location_.require(size >= smallest_collection && size <= largest_collection,
                    "the heap collection at {} has {} bytes, expected {} to {}", address, size, smallest_collection,
                    largest_collection);
  Collection collection{.bytes = file_.read(address, size, location_), .objects = {}};
  const std::span<const std::byte> all(collection.bytes);
  for (std::uint64_t at = header_bytes; size - at >= header_bytes;) {
    FieldReader fields(all.subspan(at, header_bytes), location_);
    const std::uint64_t index = fields.number(2);
    fields.skip(6);
    const std::uint64_t length = fields.number(8), left = size - at;
    location_.require(length <= left, "object {} of the heap collection at {} has {} bytes, but only {} are left in it",
                      index, address, length, left);
    // Index 0 is the free space, whose length includes its header.
    const std::uint64_t used = index == 0 ? length : header_bytes + round_up(length, std::uint64_t{8});
    location_.require(used >= header_bytes && used <= left,
                      "object {} of the heap collection at {} takes {} bytes, expected {} to {}", index, address, used,
                      header_bytes, left);
    location_.require(index == 0 || collection.objects.emplace(index, all.subspan(at + header_bytes, length)).second,
                      "the heap collection at {} has two objects {}", address, index);
    at += used;
  }
  return collection;
}

}  // namespace causeway::hdf5_guard
