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
#include "parallel/device_transport.hpp"
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

nlohmann::ordered_json describe_environment(const TrainSettings& settings, const Model& model, Runtime& runtime) {
  Communicator& world = runtime.mesh.world;
  nlohmann::ordered_json environment;
  for (const BuildFact& fact : build_facts()) environment["build"][std::string(fact.name)] = fact.value;

  const ModelOptions& shape = model.options().shape;
  environment["run"] = {{"model", settings.model.model.empty() ? layers_text(shape.layers) : settings.model.model},
                        {"layers", layers_text(shape.layers)},
                        {"width", shape.width},
                        {"parameters", model.parameters().count()},
                        {"dtype", name_of(model.options().dtype)},
                        {"device", settings.compute.device},
                        {"steps", settings.steps},
                        {"pack_tokens", settings.pack_tokens},
                        {"accumulate", settings.accumulate}};
  const bool processes = uses_mpi(settings.launch);
  environment["mesh"] = {{"ranks", world.size()},
                         {"data", runtime.mesh.data_size},
                         {"context", runtime.mesh.context.size()},
                         {"layout", settings.compute.layout},
                         {"transport", processes ? "MPI" : "threads"},
                         {"device_memory", way_of_device_memory(world.transport(), runtime.stream, !processes)}};

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
