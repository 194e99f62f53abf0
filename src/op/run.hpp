#pragma once

#include <map>
#include <optional>
#include <string>

#include "parallel/cost/cost.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One line's worth of `causeway op`: an operator, its file, and how to run it.
struct OpRequest {
  std::string op, in, out;
  std::string strategy = "auto", layout = "contiguous", dtype = "f64", device = "cpu", schedule = "auto",
              method = "auto";
  bool backward = false;
  bool dry_run = false;
};

/// What the cases of one start of the program share: all ranks, and on each device that a case asks for a stream, how
/// the ranks talk there and what strategy "auto" measured. Kept, since GPUs take longer to find each other than most
/// cases take to run.
class OpWorld {
 public:
  struct Place {
    Stream stream;
    Communicator ranks;
    std::optional<Machine> machine;
  };

  explicit OpWorld(Communicator& control) : control_(control) {}

  Communicator& control() { return control_; }  ///< host scalars and agreement on errors
  Place& on(Device device);                     ///< collective; throws the same AgreedError on every rank

 private:
  Communicator& control_;
  std::map<Device, Place> places_;
};

/// Runs it on all ranks; returns what was done, in a line, on every rank; a dry run adds what the choice of a strategy
/// was made from. Bad input throws the same AgreedError on every rank and leaves no file.
std::string run_op(const OpRequest& request, OpWorld& world);

}  // namespace causeway
