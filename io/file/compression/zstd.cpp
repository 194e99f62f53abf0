#if CAUSEWAY_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

#include <new>

#include "io/file/compression/compression.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

#if CAUSEWAY_ZSTD
namespace {

/// The largest window, 128 MiB, is that of the zstd program without --long=28 or more.
constexpr int window_log = 27;

class Zstd final : public Decompressor {
 public:
  Zstd() : context_(ZSTD_createDCtx()) {
    if (context_ == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, window_log);
  }

  void begin() override { ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only); }

  Step step(std::span<const unsigned char> in, std::span<char> out) override {
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const std::size_t outcome = ZSTD_decompressStream(context_.get(), &to, &from);
    if (ZSTD_isError(outcome)) refuse(ZSTD_getErrorCode(outcome));
    return {from.pos, to.pos, outcome == 0};
  }

 private:
  [[noreturn]] static void refuse(ZSTD_ErrorCode code) {
    if (code == ZSTD_error_memory_allocation) throw std::bad_alloc();
    if (code == ZSTD_error_frameParameter_windowTooLarge)
      fail(ExitCode::usage,
           "needs a window of more than {} MiB to be decompressed, expected at most that; compress it without --long, "
           "or with --long={}",
           (1 << window_log) >> 20, window_log);
    fail(ExitCode::usage, "is damaged zstd: {}", ZSTD_getErrorString(code));
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context_;
};

}  // namespace

std::unique_ptr<Decompressor> (*const open_zstd)() = []() -> std::unique_ptr<Decompressor> {
  return std::make_unique<Zstd>();
};
#else
std::unique_ptr<Decompressor> (*const open_zstd)() = nullptr;
#endif

}  // namespace causeway
