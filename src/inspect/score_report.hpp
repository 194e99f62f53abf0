#pragma once

#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// Whether a file was written by `causeway score`.
bool is_score_file(const hdf5::File& file);

/// What `causeway inspect` prints of a file of scores. The file is not trusted: throws Error(usage) for a wrong form
/// and Error(corrupt) for damage. With `verify` it also reads the score of every token and every value of other
/// results, and compares the sums of the tokens with the documents.
std::string describe_scores(const std::string& path, bool verify);

}  // namespace causeway
