// In three of four cases mutates the uncompressed text and compresses it again, because random changes of compressed
// bytes never give valid deflate data and a valid CRC-32.
#include <zlib.h>

#include <algorithm>
#include <vector>

#include "tests/fuzz/fuzz.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed);

namespace {

constexpr int gzip_format = 15 + 16;  // zlib's window bits for gzip
constexpr std::size_t head = 1;       // the byte before the file that chooses its reader's buffer, see reader.cpp

/// The uncompressed bytes of the first member; empty if it is damaged.
std::vector<std::uint8_t> inflated(const std::uint8_t* data, std::size_t size, std::size_t limit) {
  std::vector<std::uint8_t> plain(limit);
  z_stream stream{};
  if (inflateInit2(&stream, gzip_format) != Z_OK) return {};
  stream.next_in = const_cast<std::uint8_t*>(data);
  stream.avail_in = static_cast<uInt>(size);
  stream.next_out = plain.data();
  stream.avail_out = static_cast<uInt>(plain.size());
  const int outcome = inflate(&stream, Z_FINISH);
  plain.resize(outcome == Z_STREAM_END ? stream.total_out : 0);
  inflateEnd(&stream);
  return plain;
}

std::vector<std::uint8_t> deflated(const std::vector<std::uint8_t>& plain) {
  std::vector<std::uint8_t> packed(compressBound(static_cast<uLong>(plain.size())) + 32);
  z_stream stream{};
  if (deflateInit2(&stream, 1, Z_DEFLATED, gzip_format, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  stream.next_in = const_cast<std::uint8_t*>(plain.data());
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<uInt>(packed.size());
  const int outcome = deflate(&stream, Z_FINISH);
  packed.resize(outcome == Z_STREAM_END ? stream.total_out : 0);
  deflateEnd(&stream);
  return packed;
}

}  // namespace

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t limit, unsigned seed) {
  const bool compressed = size > head + 2 && data[head] == 0x1f && data[head + 1] == 0x8b;
  if (!compressed || seed % 4 == 0) return LLVMFuzzerMutate(data, size, limit);
  std::vector<std::uint8_t> plain = inflated(data + head, size - head, limit);
  const std::size_t before = plain.size();
  if (before == 0) return LLVMFuzzerMutate(data, size, limit);
  plain.resize(limit);
  plain.resize(LLVMFuzzerMutate(plain.data(), before, limit));
  const std::vector<std::uint8_t> packed = deflated(plain);
  if (packed.empty() || packed.size() > limit - head) return LLVMFuzzerMutate(data, size, limit);
  std::copy(packed.begin(), packed.end(), data + head);
  return head + packed.size();
}
