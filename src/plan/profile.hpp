#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.hpp"
#include "kernels/core/memory.hpp"
#include "parallel/cost/cost.hpp"

namespace causeway {

/// How fast a rank sends, while all ranks do.
struct Link {
  double latency_s = 0;
  double message_s = 1e-6;     ///< that every further message of an exchange adds
  double bytes_per_s = 0;      ///< to a neighbour
  double all_bytes_per_s = 0;  ///< to all other ranks at the same time
};

/// The speed and the sizes of a cluster whose hosts are alike. A rank has a device of its own, or on the CPU a share of
/// its host.
struct Profile {
  std::string name, source;
  std::map<std::string, std::string> sources = {};  ///< of single members: where the figure comes from
  Device device = Device::cpu;
  DType dtype = DType::f32;  ///< in which kernels and products were measured
  int ranks_per_host = 1;
  double device_bytes = 0;                        ///< memory of a rank's GPU that a run can use; unused on the CPU
  double host_bytes = 0;                          ///< memory of a host that its ranks share
  std::map<DType, double> gemm_flops_per_s = {};  ///< of one large matrix product, which MFU refers to
  double fp8_gemm_flops_per_s = 0;                ///< of one on 8-bit floats; 0: it has none
  double gemm_in_step = 1;                        ///< the part of it that the products of a training step reach
  double host_link_bytes_per_s = 0;               ///< between a rank's device and host memory, one way
  double host_update_bytes_per_s = 0;             ///< that a rank's CPU threads read + write in an update
  Machine machine;                                ///< of ranks of one host: links, copies, kernels
  Link network;                                   ///< between hosts

  double gemm_rate() const;  ///< in the profile's dtype
};

/// The figures for a group of `ranks` with neighbouring numbers. Within a host they are those of its links. Otherwise
/// the slowest rank sends to its neighbour over the network; of what it sends to all others, bytes and messages, the
/// share for other hosts goes over the network while the rest goes over the host's links.
Machine machine_of_group(const Profile& profile, int ranks);

/// Profiles that are part of the program.
struct BuiltInProfile {
  std::string_view name, summary;
  Profile (*make)();
};
std::span<const BuiltInProfile> built_in_profiles();

/// The built-in profile of this name, or the profile in this file. Throws Error(usage) that names the file and the
/// member that is missing, unknown, of the wrong type or out of range.
Profile read_profile(const std::string& name_or_file);
/// The same for the text of a file, which is called `where` in messages.
Profile parse_profile(std::string_view text, const std::string& where);
nlohmann::ordered_json to_json(const Profile& profile);
std::string json_text(const Profile& profile);  ///< the text of a file

}  // namespace causeway
