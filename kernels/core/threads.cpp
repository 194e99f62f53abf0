#include "kernels/core/threads.hpp"

#include <pthread.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <semaphore>
#include <vector>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// OMP_STACKSIZE in bytes: a number with B, K (also without a letter), M or G. 0 if it is not set or is none of these.
std::size_t stack_bytes() {
  const char* const value = std::getenv("OMP_STACKSIZE");
  if (value == nullptr) return 0;
  const std::string_view text(value);
  std::size_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(stop - text.data()));
  const int shift = unit.empty() || unit == "K" || unit == "k" ? 10
                    : unit == "M" || unit == "m"               ? 20
                    : unit == "G" || unit == "g"               ? 30
                                                               : 0;
  const bool known = shift > 0 || unit == "B" || unit == "b";
  return error == std::errc() && known && number <= std::numeric_limits<std::size_t>::max() >> shift ? number << shift
                                                                                                     : 0;
}

}  // namespace

// OpenBLAS's own threads are unused: kernels/cpu/gemm.cpp distributes tiles of a product over OpenMP's threads.
void set_threads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

int computing_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

std::optional<int> bounded_threads(std::string_view asked) {
  constexpr long least = 256;
  const long most = std::max(least, 4 * ::sysconf(_SC_NPROCESSORS_CONF));
  const std::size_t begin = std::min(asked.find_first_not_of(" \t"), asked.size());
  long number = 0;  // the first of a list "4,2" is the number at the outer level
  const auto error = std::from_chars(asked.data() + begin, asked.data() + asked.size(), number).ec;
  const bool above =
      error == std::errc::result_out_of_range ? asked[begin] != '-' : error == std::errc() && number > most;
  return above ? std::optional(static_cast<int>(most)) : std::nullopt;
}

void require_startable(int threads) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (const std::size_t bytes = stack_bytes(); bytes > 0) pthread_attr_setstacksize(&attributes, bytes);
  std::counting_semaphore<> end(0);
  std::vector<pthread_t> started;
  int refused = 0;
  const auto wait = [](void* semaphore) -> void* {
    static_cast<std::counting_semaphore<>*>(semaphore)->acquire();
    return nullptr;
  };
  while (refused == 0 && std::ssize(started) < threads) {
    pthread_t thread{};
    refused = pthread_create(&thread, &attributes, wait, &end);
    if (refused == 0) started.push_back(thread);
  }
  end.release(std::ssize(started));
  for (const pthread_t thread : started) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  ensure(
      refused == 0,
      "the system lets this process start {} more threads, but it needs {}: {}; OMP_NUM_THREADS and OMP_STACKSIZE set "
      "their number and size, ulimit -u and -v limit them",
      started.size(), threads, std::strerror(refused));
}

}  // namespace causeway
