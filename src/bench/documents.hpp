#pragma once

#include <cstdint>
#include <vector>

namespace causeway {

/// Documents that fill a pack of `tokens`: lengths of 57 to 2048 with mean 646, as PackMamba (arXiv 2408.03865)
/// describes its corpus; log-normal, the shape that it leaves open. The last one is cut.
std::vector<std::int64_t> packed_documents(std::int64_t tokens);
/// `count` documents as equal as may be.
std::vector<std::int64_t> equal_documents(std::int64_t tokens, std::int64_t count);

}  // namespace causeway
