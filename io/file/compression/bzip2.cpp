#if CAUSEWAY_BZIP2
#include <bzlib.h>
#endif

#include <new>

#include "io/file/compression/compression.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

#if CAUSEWAY_BZIP2
namespace {

class Bzip2 final : public Decompressor {
 public:
  Bzip2() = default;
  ~Bzip2() override { end(); }
  Bzip2(const Bzip2&) = delete;
  Bzip2& operator=(const Bzip2&) = delete;

  void begin() override {
    end();
    stream_ = {};
    if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) throw std::bad_alloc();
    begun_ = true;
  }

  Step step(std::span<const unsigned char> in, std::span<char> out) override {
    stream_.next_in = const_cast<char*>(reinterpret_cast<const char*>(in.data()));
    stream_.avail_in = static_cast<unsigned>(in.size());
    stream_.next_out = out.data();
    stream_.avail_out = static_cast<unsigned>(out.size());
    const int outcome = BZ2_bzDecompress(&stream_);
    if (outcome == BZ_MEM_ERROR) throw std::bad_alloc();
    require(outcome == BZ_OK || outcome == BZ_STREAM_END, "is damaged bzip2: {}",
            outcome == BZ_DATA_ERROR_MAGIC ? "the header of a stream is wrong" : "its data or a checksum is wrong");
    return {in.size() - stream_.avail_in, out.size() - stream_.avail_out, outcome == BZ_STREAM_END};
  }

 private:
  void end() {
    if (begun_) BZ2_bzDecompressEnd(&stream_);
    begun_ = false;
  }

  bz_stream stream_{};
  bool begun_ = false;
};

}  // namespace

std::unique_ptr<Decompressor> (*const open_bzip2)() = []() -> std::unique_ptr<Decompressor> {
  return std::make_unique<Bzip2>();
};
#else
std::unique_ptr<Decompressor> (*const open_bzip2)() = nullptr;
#endif

}  // namespace causeway
