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

/// Shared by the fuzz targets. A target is a file with one LLVMFuzzerTestOneInput: it writes an input to a file in
/// memory and calls the same function as the program does. libFuzzer searches for inputs that make it fail
/// (scripts/fuzz); replay.cpp runs the inputs in tests/fuzz/corpus.
namespace causeway::fuzz {

/// Ends the process like a crash, so that libFuzzer keeps the input.
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

/// Whether `work` accepts the input. It may refuse it only with an Error of one of these codes. std::bad_alloc means
/// that it did not check a size; any other exception is also a defect.
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
