#pragma once

#include <map>
#include <optional>
#include <string>

#include "parallel/cost/cost.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One case of `causeway op`: an operator, its files, and how to run it.
struct OpRequest {
  std::string op, in, out;
  std::string strategy = "auto", layout = "contiguous", dtype = "f64", device = "cpu", schedule = "auto",
              method = "auto", keep_spectra = "auto";
  bool backward = false;
  bool dry_run = false;
};

/// The ranks as a group on one device.
struct DeviceGroup {
  Stream stream;
  Communicator ranks;              ///< carries the traffic of the operators, and no other
  std::optional<Machine> machine;  ///< measured for the cases that asked for strategy "auto"
};

/// Shared by all cases of one start of the program: the ranks, and a DeviceGroup for each device that a case requested.
/// The groups are kept, because connecting GPUs takes longer than most cases take to run.
class OpWorld {
 public:
  explicit OpWorld(Communicator& control) : control_(control) {}

  Communicator& control() { return control_; }  ///< for host scalars and agreement on errors
  DeviceGroup& on(Device device);               ///< collective; throws the same AgreedError on every rank

 private:
  Communicator& control_;
  std::map<Device, DeviceGroup> groups_;
};

/// Runs a case on all ranks and returns one line that says what was run, on every rank. A dry run runs nothing; for
/// strategy "auto" it adds the estimates that the choice was made from. Bad input throws the same AgreedError on every
/// rank and leaves no file.
std::string run_op(const OpRequest& request, OpWorld& world);

}  // namespace causeway
