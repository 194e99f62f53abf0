#pragma once

#include <exception>
#include <functional>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// What rank 0 alone does, a file's writing as a rule, between communications of all ranks. Once a piece of it has
/// failed the rest is left out, so that the ranks' communication goes on as agreed; agree() then ends all of them with
/// that error.
class FirstRank {
 public:
  explicit FirstRank(Communicator& ranks) : ranks_(ranks) {}
  void operator()(const std::function<void()>& work);
  void agree();

 private:
  Communicator& ranks_;
  std::exception_ptr failure_;
};

}  // namespace causeway
