#include "kernels/cpu/fft_conv/fftw.hpp"

namespace causeway::cpu {

// A static because what it guards is one: FFTW's own tables. The alternative, fftw_make_planner_thread_safe(), needs a
// further library.
std::mutex& fftw_planner() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace causeway::cpu
