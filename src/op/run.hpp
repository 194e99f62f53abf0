#pragma once

#include <optional>
#include <string>

#include "parallel/communicator.hpp"
#include "parallel/cost.hpp"

namespace causeway {

/// One line's worth of `causeway op`: an operator, its file, and how to run it.
struct OpRequest {
  std::string op, in, out;
  std::string strategy = "auto", layout = "contiguous", dtype = "f64", device = "cpu", schedule = "auto",
              method = "auto";
  bool backward = false;
  bool dry_run = false;
};

/// Runs it on all ranks; returns what was done, in a line, on every rank; a dry run adds what the choice of a strategy
/// was made from. Bad input throws the same AgreedError on every rank and leaves no file. `machine` is measured when
/// strategy "auto" first asks for it, and serves the cases after.
std::string run_op(const OpRequest& request, Communicator& ranks, std::optional<Machine>& machine);

}  // namespace causeway
