#include "parallel/transport/device_transport.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/gpu.hpp"

namespace causeway {
namespace {

using Name = std::array<char, 320>;

Name named(const std::string& suffix) {
  std::array<char, 256> host{};
  ensure(gethostname(host.data(), host.size() - 1) == 0, "this machine has no name");
  Name name{};
  fmt::format("{} {}", host.data(), suffix).copy(name.data(), name.size() - 1);
  return name;
}

std::vector<Name> gathered(const Name& mine, Transport& ranks) {
  std::vector<Name> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), Stream());
  return all;
}

/// The same on every rank.
bool a_gpu_each(Transport& ranks) {
  std::vector<Name> gpus = gathered(named(gpu_address()), ranks);
  std::ranges::sort(gpus);
  return std::ranges::adjacent_find(gpus) == gpus.end();
}

bool takes_nccl(Transport& ranks, const Stream& stream) {
  return CAUSEWAY_NCCL && stream.device() == Device::cuda && ranks.size() > 1 && a_gpu_each(ranks);
}

}  // namespace

void take_gpu(Transport& ranks) {
  const std::vector<Name> hosts = gathered(named(""), ranks);
  const std::vector<Name> processes = gathered(named(fmt::format("{}", getpid())), ranks);
  const auto mine = static_cast<std::size_t>(ranks.rank());
  std::vector<Name> before;  // the processes of this node, in order of their first ranks, up to this rank's
  for (std::size_t rank = 0; processes[rank] != processes[mine]; ++rank)
    if (hosts[rank] == hosts[mine] && std::ranges::find(before, processes[rank]) == before.end())
      before.push_back(processes[rank]);
  if (const int gpus = visible_gpus(); gpus > 0) use_gpu(static_cast<int>(std::ssize(before) % gpus));
}

std::unique_ptr<Transport> make_device_transport(Transport& ranks, const Stream& stream) {
  std::unique_ptr<Transport> control = ranks.split(0, ranks.rank());
  const bool nccl = takes_nccl(*control, stream);
  return nccl ? make_nccl_transport(std::move(control), stream) : std::move(control);
}

std::string_view way_of_device_memory(Transport& ranks, const Stream& stream, bool threads) {
  if (stream.device() == Device::cpu) return "";
  if (takes_nccl(ranks, stream)) return "NCCL";
  if (threads) return "copies";
  return mpi_takes_device_memory() ? "MPI" : "MPI, staged by the host";
}

#if !CAUSEWAY_NCCL
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport>, const Stream&) {
  fail(ExitCode::usage, "this build has no NCCL");
}
#endif

}  // namespace causeway
