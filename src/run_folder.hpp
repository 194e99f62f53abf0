#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "parallel/communicator.hpp"

namespace causeway {

/// Writes `text` to `path`, whole or not at all. Throws Error(io).
void write_text(const std::string& path, const std::string& text);

/// environment.json: how the binary was built, each rank's host, and the variables that steer MPI, NCCL, Slurm and
/// threads. Collective; the same on every rank.
nlohmann::ordered_json describe_environment(Communicator& world);

}  // namespace causeway
