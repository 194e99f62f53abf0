#include "kernels/core/profile_range.hpp"

#if CAUSEWAY_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace causeway {

ProfileRange::ProfileRange([[maybe_unused]] const std::string& name) {
#if CAUSEWAY_CUDA
  nvtxRangePushA(name.c_str());
#endif
}

ProfileRange::~ProfileRange() {
#if CAUSEWAY_CUDA
  nvtxRangePop();
#endif
}

}  // namespace causeway
