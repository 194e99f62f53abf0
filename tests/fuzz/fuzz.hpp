#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"
#include "tests/support/temporary_folder.hpp"

/// What the fuzz targets share. A target is one LLVMFuzzerTestOneInput in a file of its own: it gives an input, as a
/// file in memory, to the entry point that the program itself calls. libFuzzer looks for inputs that break it
/// (scripts/fuzz); replay.cpp runs those it has kept.
namespace causeway::fuzz {

/// Ends the process as a crash does: libFuzzer then keeps the input.
template <class... Args>
[[noreturn]] void violated(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(stderr, "\nviolated: {}\n", fmt::format(format, std::forward<Args>(args)...));
  std::fflush(stderr);
  std::abort();
}

template <class... Args>
void holds(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) violated(format, std::forward<Args>(args)...);
}

/// Whether `work` took the input. It may refuse it by an Error of one of these codes and in no other way:
/// std::bad_alloc is a size that was believed, any other exception one nobody thought of.
template <class Work>
bool accepts(Work&& work, std::initializer_list<ExitCode> refusals) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    for (const ExitCode code : refusals)
      if (error.code() == code) return false;
    violated("exit code {}: {}", static_cast<int>(error.code()), error.what());
  } catch (const std::exception& error) {
    violated("not an Error: {}", error.what());
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace causeway::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
