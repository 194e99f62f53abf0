#pragma once

#include <zlib.h>
#if CAUSEWAY_ZSTD
#include <zstd.h>
#endif
#if CAUSEWAY_LZMA
#include <lzma.h>
#endif
#if CAUSEWAY_BZIP2
#include <bzlib.h>
#endif

#include <string>
#include <string_view>
#include <vector>

namespace causeway::testing {

inline std::string gzip(std::string_view bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

#if CAUSEWAY_ZSTD
/// A window of 2^window_log bytes, and the size of the text left out, as a program that writes a pipe does.
inline std::string zstd(std::string_view bytes, int window_log = 0, bool checksum = true) {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  std::string out(ZSTD_compressBound(bytes.size()) + 64, '\0');
  ZSTD_inBuffer from{bytes.data(), bytes.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  ZSTD_inBuffer nothing{nullptr, 0, 0};
  ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue);
  ZSTD_compressStream2(context, &to, &nothing, ZSTD_e_end);
  ZSTD_freeCCtx(context);
  out.resize(to.pos);
  return out;
}
#endif

#if CAUSEWAY_LZMA
inline std::string xz(std::string_view bytes, unsigned dictionary = 1 << 20) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 1);
  options.dict_size = dictionary;
  const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC64) != LZMA_OK) return {};
  std::string out(lzma_stream_buffer_bound(bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<const std::uint8_t*>(bytes.data());
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = out.size();
  if (lzma_code(&stream, LZMA_FINISH) != LZMA_STREAM_END) return {};
  out.resize(stream.total_out);
  lzma_end(&stream);
  return out;
}
#endif

#if CAUSEWAY_BZIP2
inline std::string bzip2(std::string_view bytes) {
  auto size = static_cast<unsigned>(bytes.size() + bytes.size() / 50 + 1000);
  std::string out(size, '\0');
  BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(bytes.data()), static_cast<unsigned>(bytes.size()), 9,
                           0, 0);
  out.resize(size);
  return out;
}
#endif

/// A compression that this build reads.
struct Compressor {
  std::string name, ending;
  std::string (*compress)(std::string_view bytes);
};

inline std::vector<Compressor> compressors() {
  return {
    {"gzip", ".gz", gzip},
#if CAUSEWAY_ZSTD
        {"zstd", ".zst", [](std::string_view bytes) { return zstd(bytes); }},
        {"zstdWithoutChecksum", ".zst", [](std::string_view bytes) { return zstd(bytes, 0, false); }},
#endif
#if CAUSEWAY_LZMA
        {"xz", ".xz", [](std::string_view bytes) { return xz(bytes); }},
#endif
#if CAUSEWAY_BZIP2
        {"bzip2", ".bz2", bzip2},
#endif
  };
}

}  // namespace causeway::testing
