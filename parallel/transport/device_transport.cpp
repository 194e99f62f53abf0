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

/// A string of fixed size, so that all_gather can exchange it.
using FixedString = std::array<char, 320>;

/// The host name, followed by `suffix`.
FixedString host_and(const std::string& suffix) {
  std::array<char, 256> host{};
  ensure(gethostname(host.data(), host.size() - 1) == 0, "gethostname failed");
  FixedString name{};
  fmt::format("{} {}", host.data(), suffix).copy(name.data(), name.size() - 1);
  return name;
}

std::vector<FixedString> gathered(const FixedString& mine, Transport& ranks) {
  std::vector<FixedString> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), Stream());
  return all;
}

/// Collective; the same result on every rank.
bool each_rank_has_its_own_gpu(Transport& ranks) {
  std::vector<FixedString> gpus = gathered(host_and(gpu_address()), ranks);
  std::ranges::sort(gpus);
  return std::ranges::adjacent_find(gpus) == gpus.end();
}

bool can_use_nccl(Transport& ranks, const Stream& stream) {
  return CAUSEWAY_NCCL && stream.device() == Device::cuda && ranks.size() > 1 && each_rank_has_its_own_gpu(ranks);
}

}  // namespace

void select_gpu(Transport& ranks) {
  const std::vector<FixedString> hosts = gathered(host_and(""), ranks);
  const std::vector<FixedString> processes = gathered(host_and(fmt::format("{}", getpid())), ranks);
  const auto mine = static_cast<std::size_t>(ranks.rank());
  std::vector<FixedString> before;  // the processes of this node with lower ranks, in rank order
  for (std::size_t rank = 0; processes[rank] != processes[mine]; ++rank)
    if (hosts[rank] == hosts[mine] && std::ranges::find(before, processes[rank]) == before.end())
      before.push_back(processes[rank]);
  if (const int gpus = visible_gpus(); gpus > 0) use_gpu(static_cast<int>(std::ssize(before) % gpus));
}

std::unique_ptr<Transport> make_device_transport(Transport& ranks, const Stream& stream) {
  std::unique_ptr<Transport> control = ranks.split(0, ranks.rank());
  const bool nccl = can_use_nccl(*control, stream);
  return nccl ? make_nccl_transport(std::move(control), stream) : std::move(control);
}

std::string_view device_transfer_method(Transport& ranks, const Stream& stream, bool threads) {
  if (stream.device() == Device::cpu) return "";
  if (can_use_nccl(ranks, stream)) return "NCCL";
  if (threads) return "copies";
  return mpi_accepts_device_memory() ? "MPI" : "MPI, staged by the host";
}

#if !CAUSEWAY_NCCL
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport>, const Stream&) {
  fail(ExitCode::usage, "NCCL was requested, but this build has none");
}
#endif

}  // namespace causeway
