#pragma once

#include <cstdint>
#include <vector>

namespace causeway {

/// cu_seqlens of a pack of `tokens` filled with documents of 57 to 2048 tokens and a mean of 646, as PackMamba (arXiv
/// 2408.03865) describes its corpus. PackMamba does not give the distribution; here it is log-normal. The last document
/// is cut.
std::vector<std::int64_t> packed_documents(std::int64_t tokens);

}  // namespace causeway
