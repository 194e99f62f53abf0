#pragma once

#include <string>

namespace causeway {

/// Lines about a dataset for a person: its documents, their lengths, what is stored of each token, the most frequent
/// tokens. `verify`: also reads everything and compares checksums, statistics and the identity; throws Error(corrupt)
/// for damage.
std::string describe_dataset(const std::string& path, bool verify);

}  // namespace causeway
