#include "src/run_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

#include "io/atomic_file.hpp"
#include "src/log.hpp"
#include "src/version.hpp"

namespace causeway {

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  {
    std::ofstream out(file.temporary(), std::ios::binary);
    out << text;
    out.close();
    if (!out) fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  }
  file.commit();
}

nlohmann::ordered_json describe_environment(Communicator& world) {
  nlohmann::ordered_json environment;
  for (const BuildFact& fact : build_facts()) environment["build"][std::string(fact.name)] = fact.value;

  using HostName = std::array<char, 256>;
  HostName mine{};
  host_name().copy(mine.data(), mine.size() - 1);
  std::vector<HostName> hosts(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(hosts)), Stream());
  for (const HostName& host : hosts) environment["hosts"].push_back(std::string(host.data()));

  auto& variables = environment["variables"] = nlohmann::ordered_json::object();
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line = *entry;
    for (const std::string_view prefix :
         {"OMPI_MCA_", "UCX_", "NCCL_", "SLURM_", "OMP_", "OPENBLAS_", "CUDA_VISIBLE_DEVICES", "FI_"})
      if (line.starts_with(prefix)) kept.emplace_back(line);
  }
  std::sort(kept.begin(), kept.end());
  for (const std::string& line : kept) variables[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
  return environment;
}

}  // namespace causeway
