#include "kernels/cpu/fft_conv/fftw.hpp"

namespace causeway::cpu {

// Static, because it guards FFTW's own global tables. The alternative, fftw_make_planner_thread_safe(), needs another
// library.
std::mutex& fftw_planner() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace causeway::cpu
