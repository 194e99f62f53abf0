#include "io/file/rank_zero_work.hpp"

namespace causeway {

void RankZeroWork::operator()(const std::function<void()>& work) {
  if (failure_ || ranks_.rank() != 0) return;
  try {
    work();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void RankZeroWork::agree_on_failure() {
  collectively(ranks_, [&] {
    if (failure_) std::rethrow_exception(failure_);
  });
}

}  // namespace causeway
