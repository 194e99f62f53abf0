#if CAUSEWAY_LZMA
#include <lzma.h>
#endif

#include <new>

#include "io/file/compression/compression.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

#if CAUSEWAY_LZMA
namespace {

/// xz -9 needs 65 MiB.
constexpr std::uint64_t memory_limit = 256 << 20;

class Xz final : public Decompressor {
 public:
  Xz() = default;
  ~Xz() override { lzma_end(&stream_); }
  Xz(const Xz&) = delete;
  Xz& operator=(const Xz&) = delete;

  void begin() override {
    if (lzma_stream_decoder(&stream_, memory_limit, LZMA_TELL_UNSUPPORTED_CHECK) != LZMA_OK) throw std::bad_alloc();
  }

  Step step(std::span<const unsigned char> in, std::span<char> out) override {
    stream_.next_in = in.data();
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret outcome = lzma_code(&stream_, LZMA_RUN);
    if (outcome != LZMA_OK && outcome != LZMA_STREAM_END && outcome != LZMA_BUF_ERROR) refuse(outcome);
    return {in.size() - stream_.avail_in, out.size() - stream_.avail_out, outcome == LZMA_STREAM_END};
  }

 private:
  [[noreturn]] void refuse(lzma_ret outcome) const {
    if (outcome == LZMA_MEM_ERROR) throw std::bad_alloc();
    if (outcome == LZMA_MEMLIMIT_ERROR)
      fail(ExitCode::usage,
           "needs {} MiB of memory to be decompressed, expected at most {} MiB; compress it with xz -9 "
           "or less",
           (lzma_memusage(&stream_) >> 20) + 1, memory_limit >> 20);
    const char* const reason = outcome == LZMA_FORMAT_ERROR        ? "the header of a stream is wrong"
                               : outcome == LZMA_OPTIONS_ERROR     ? "it has options that liblzma does not know"
                               : outcome == LZMA_UNSUPPORTED_CHECK ? "it has a checksum that liblzma does not know"
                                                                   : "its data or a checksum is wrong";
    fail(ExitCode::usage, "is damaged xz: {}", reason);
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
};

}  // namespace

std::unique_ptr<Decompressor> (*const open_xz)() = []() -> std::unique_ptr<Decompressor> {
  return std::make_unique<Xz>();
};
#else
std::unique_ptr<Decompressor> (*const open_xz)() = nullptr;
#endif

}  // namespace causeway
