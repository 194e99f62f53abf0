#pragma once

#include <cstdint>

namespace causeway {

/// The complement of a token that is the byte of a nucleotide letter (IUPAC, NC-IUB 1984): A↔T, C↔G, R↔Y, K↔M, B↔V,
/// D↔H; S, W and N are their own, U becomes A. Case is kept. Every other token (another byte, an end-of-document token,
/// an id above 255) has no complement and is returned as it is.
std::int32_t complement_of(std::int32_t token);

}  // namespace causeway
