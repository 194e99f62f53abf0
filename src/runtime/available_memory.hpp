#pragma once

#include <optional>
#include <string>

namespace causeway {

/// The bytes of host memory that processes of this job can still take: the least of MemAvailable, of what is left in
/// the control groups of this process (their limit without what they use, where unused file caches do not count), and
/// of the limit of the address space (ulimit -v). No value where nothing of this is known. `root`: "/", or a folder
/// with copies of the files of /proc and /sys.
std::optional<double> available_host_memory(const std::string& root = "/");

/// The bytes that this process has in memory now; 0 where that is not known.
double resident_bytes();

}  // namespace causeway
