#include <zlib.h>

#include <new>

#include "io/file/compression/compression.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr int window_bits = 15 + 16;  // zlib: 16 more for the gzip format only

class Gzip final : public Decompressor {
 public:
  Gzip() {
    if (inflateInit2(&stream_, window_bits) != Z_OK) throw std::bad_alloc();
  }
  ~Gzip() override { inflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  void begin() override { inflateReset(&stream_); }

  Step step(std::span<const unsigned char> in, std::span<char> out) override {
    stream_.next_in = const_cast<unsigned char*>(in.data());
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int outcome = inflate(&stream_, Z_NO_FLUSH);
    if (outcome == Z_MEM_ERROR) throw std::bad_alloc();
    require(outcome == Z_OK || outcome == Z_STREAM_END || outcome == Z_BUF_ERROR, "is damaged gzip: {}",
            stream_.msg == nullptr ? "it needs a preset dictionary" : stream_.msg);
    return {in.size() - stream_.avail_in, out.size() - stream_.avail_out, outcome == Z_STREAM_END};
  }

 private:
  z_stream stream_{};
};

}  // namespace

std::unique_ptr<Decompressor> (*const open_gzip)() = []() -> std::unique_ptr<Decompressor> {
  return std::make_unique<Gzip>();
};

}  // namespace causeway
