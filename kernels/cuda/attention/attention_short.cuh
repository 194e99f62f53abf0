#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention.hpp"

namespace causeway::cuda {

/// Compute the documents of less than least_fused_rows tokens, in bf16 with aligned heads of 128 elements, if the keys
/// are those of the queries' run. `computed` has an entry for each document; those that are computed become 1.
void short_attention_forward(const Stream& stream, const AttentionForward& args, std::vector<std::uint8_t>& computed);
void short_attention_backward(const Stream& stream, const AttentionBackward& args, std::vector<std::uint8_t>& computed);

}  // namespace causeway::cuda
