#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/segments.hpp"

/// Which documents the fused kernels (cuDNN's) compute, and in which calls: functions of the documents' lengths only.
/// Host code, also compiled without CUDA.
namespace causeway::cuda {

/// Which of its keys query i of n queries sees.
enum class PairMask : std::uint8_t {
  causal,           ///< keys 0 … i
  causal_from_end,  ///< all keys but the last n - 1 - i
  all
};

/// Consecutive queries and consecutive keys of one document, of which each query sees at least one.
struct DocumentPart {
  std::int64_t query, queries;  ///< the first row of the queries' run, and how many
  std::int64_t key, keys;       ///< the same of the keys' run
  PairMask mask;
  bool operator==(const DocumentPart&) const = default;
};

/// What one call of the fused kernels computes: parts of similar size, and some neighbouring heads.
struct FusedCall {
  PairMask mask;
  std::int64_t documents;      ///< at least the number of parts; the others are empty
  std::int64_t queries, keys;  ///< at least those of every part
  std::int64_t head, heads;    ///< the first head, and how many
  std::vector<DocumentPart> parts;
  bool of_cut = false;  ///< the parts are blocks of a cut document
  bool operator==(const FusedCall&) const = default;
};

struct FusedCalls {
  std::vector<FusedCall> calls;
  std::vector<std::uint8_t> computed;  ///< for each document of the run: 1 if the calls compute all of its pairs
  std::vector<DocumentPart> cut;       ///< documents whose gradients are sums over several calls
};

/// A run of queries and a run of keys, as AttentionInputs describes them.
struct RunsOfAttention {
  SegmentsView segments;  ///< of the queries' run; only its host entries are read
  std::int64_t keys, key_offset;
  std::int64_t heads;
};

/// Documents with fewer queries or keys than this stay with our kernels.
inline constexpr std::int64_t least_fused_rows = 64;
/// The smallest size class.
inline constexpr std::int64_t least_size = 128;

/// A call of several documents contains no more rows from its first to its last one: temporary tensors have these rows.
inline constexpr std::int64_t fused_rows_of_call = std::int64_t{1} << 17;

/// The size class of `rows` rows: a power of two, at least least_size, or between 32K and 64K a multiple of 8K, because
/// there the class decides how many heads fit into the workspace. cuDNN compiles a kernel for each size (0.65 s), so a
/// few sizes serve packs of all lengths.
std::int64_t size_class(std::int64_t rows);

/// Bytes of workspace of a deterministic backward call: it keeps dS, of each document and head [queries, keys] in bf16.
constexpr std::int64_t backward_workspace(std::int64_t documents, std::int64_t heads, std::int64_t queries,
                                          std::int64_t keys) {
  return 2 * documents * heads * queries * keys;
}

/// Forward: one call for each size class, with all heads.
FusedCalls forward_calls(const RunsOfAttention& runs);

/// Backward: calls whose workspace is at most `most_bytes`. A class takes as many heads at a time as fit, and then as
/// many documents. A document of which not even one head fits is cut into blocks of queries and keys; their gradients
/// are sums over the calls, in their order. Those of any other document come from one call for each
/// head. No row is in two parts of a call.
FusedCalls backward_calls(const RunsOfAttention& runs, std::int64_t most_bytes);

/// Bytes of workspace of a backward call. One head of a document of 64K fits.
inline constexpr std::int64_t most_workspace = std::int64_t{9} << 30;

/// Bytes that backward takes beside its arguments, if it writes the gradients to their places in bf16: the workspace,
/// a made y, and for documents that are cut the gradients of a block and sums in float32. cuDNN adds at most 9 MB.
std::int64_t backward_bytes(const RunsOfAttention& runs, std::int64_t most_bytes, std::int64_t elements_of_head);

/// Consecutive documents of less than least_fused_rows tokens, which one block of threads computes.
struct ShortBlock {
  std::int32_t document, documents;  ///< the first document, and how many
  std::int32_t row, rows;            ///< the first row of the run, and how many
  bool operator==(const ShortBlock&) const = default;
};
inline constexpr std::int64_t rows_of_short_block = 96;

/// The blocks of all short documents that are not yet `computed`, which has an entry for each document; marks them
/// there. For a run of queries whose keys are those of the same run.
std::vector<ShortBlock> short_blocks(const SegmentsView& segments, std::vector<std::uint8_t>& computed);

}  // namespace causeway::cuda
