#pragma once

#include <exception>
#include <functional>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Work that only rank 0 does (usually writing a file), between communication of all ranks. A failure on rank 0 must
/// not stop the communication, since the other ranks would wait forever. So the failure is kept, later work is skipped,
/// and agree_on_failure(), which all ranks call, throws it on all of them.
class RankZeroWork {
 public:
  explicit RankZeroWork(Communicator& ranks) : ranks_(ranks) {}
  /// Calls `work` on rank 0, unless earlier work failed.
  void operator()(const std::function<void()>& work);
  /// Collective. Throws the same AgreedError on all ranks if work failed.
  void agree_on_failure();

 private:
  Communicator& ranks_;
  std::exception_ptr failure_;
};

}  // namespace causeway
