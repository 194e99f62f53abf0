#pragma once

#include <string>

#include "parallel/communicator.hpp"

namespace causeway {

/// One line's worth of `causeway op`: an operator, its file, and how to run it.
struct OpRequest {
  std::string op, in, out;
  std::string strategy = "auto", layout = "contiguous", dtype = "f64", device = "cpu", schedule = "auto",
              method = "auto";
  bool backward = false;
  bool dry_run = false;
};

/// Runs it on all ranks; returns what was done, in a line, on every rank. Bad input throws the same AgreedError on
/// every rank and leaves no file.
std::string run_op(const OpRequest& request, Communicator& ranks);

}  // namespace causeway
