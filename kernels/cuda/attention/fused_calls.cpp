#include "kernels/cuda/attention/fused_calls.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <tuple>

#include "kernels/core/integer.hpp"

namespace causeway::cuda {
namespace {

std::int64_t power_of_two_from(std::int64_t x) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(x)));
}
std::int64_t power_of_two_up_to(std::int64_t x) {
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(x)));
}

/// The pairs of document s, or none if the fused kernels do not compute them.
std::optional<DocumentPart> part_of(const RunsOfAttention& runs, std::int64_t s) {
  const auto within = [](std::int64_t row, std::int64_t rows) { return std::clamp<std::int64_t>(row, 0, rows); };
  const std::int64_t query = within(runs.segments.host[s], runs.segments.tokens),
                     end = within(runs.segments.host[s + 1], runs.segments.tokens);
  const std::int64_t key = within(runs.segments.host[s] - runs.key_offset, runs.keys),
                     last = within(end - runs.key_offset, runs.keys);
  const std::int64_t queries = end - query, keys = last - key, before = query - runs.key_offset - key;
  if (queries < least_fused_rows || keys < least_fused_rows || before < 0) return std::nullopt;
  DocumentPart part{query, queries, key, keys, PairMask::all};
  if (keys == before + queries)
    part.mask = before == 0 ? PairMask::causal : PairMask::causal_from_end;
  else if (keys > before)  // the keys end between the first and the last query
    return std::nullopt;
  return part;
}

/// Adds the part cut into blocks of at most `block` queries and keys, the diagonal ones first.
void cut(const DocumentPart& part, std::int64_t block, std::vector<DocumentPart>& blocks) {
  if (part.mask == PairMask::causal_from_end) {
    const std::int64_t before = part.keys - part.queries;
    cut({part.query, part.queries, part.key + before, part.queries, PairMask::causal}, block, blocks);
    cut({part.query, part.queries, part.key, before, PairMask::all}, block, blocks);
    return;
  }
  const auto step_of = [&](std::int64_t rows) {
    return round_up(ceil_div(rows, ceil_div(rows, block)), std::int64_t{128});
  };
  const std::int64_t queries = step_of(part.queries), keys = step_of(part.keys);
  const auto add = [&](std::int64_t i, std::int64_t j, PairMask mask) {
    blocks.push_back(
        {part.query + i, std::min(queries, part.queries - i), part.key + j, std::min(keys, part.keys - j), mask});
  };
  const bool causal = part.mask == PairMask::causal;
  for (std::int64_t i = 0; causal && i < part.queries; i += queries) add(i, i, PairMask::causal);
  for (std::int64_t i = 0; i < part.queries; i += queries)
    for (std::int64_t j = 0; j < (causal ? i : part.keys); j += keys) add(i, j, PairMask::all);
}

/// The parts of all documents that are computed here; marks those documents.
std::vector<DocumentPart> parts_of(const RunsOfAttention& runs, FusedCalls& result) {
  std::vector<DocumentPart> parts;
  result.computed.resize(static_cast<std::size_t>(runs.segments.count));
  for (std::int64_t s = 0; s < runs.segments.count; ++s) {
    const std::optional<DocumentPart> part = part_of(runs, s);
    result.computed[static_cast<std::size_t>(s)] = part.has_value();
    if (part) parts.push_back(*part);
  }
  return parts;
}

using Class = std::tuple<PairMask, std::int64_t, std::int64_t>;  // mask, queries, keys
Class class_of(const DocumentPart& part) { return {part.mask, size_class(part.queries), size_class(part.keys)}; }

/// Calls for parts of one class, in the order of their rows: `heads` of all heads at a time, up to `documents` parts
/// and fused_rows_of_call rows at a time.
void add_calls(const Class& of, const std::vector<DocumentPart>& parts, std::int64_t all_heads, std::int64_t heads,
               std::int64_t documents, std::vector<FusedCall>& calls) {
  const auto [mask, queries, keys] = of;
  documents = std::min(documents, power_of_two_from(std::ssize(parts)));
  for (auto first = parts.begin(); first != parts.end();) {
    auto last = first + 1;
    while (last != parts.end() && last - first < documents &&
           last->query + last->queries - first->query <= fused_rows_of_call)
      ++last;
    for (std::int64_t head = 0; head < all_heads; head += heads)
      calls.push_back({.mask = mask,
                       .documents = documents,
                       .queries = queries,
                       .keys = keys,
                       .head = head,
                       .heads = std::min(heads, all_heads - head),
                       .parts = {first, last}});
    first = last;
  }
}

}  // namespace

std::int64_t size_class(std::int64_t rows) {
  constexpr std::int64_t coarse = 1 << 15, step = coarse / 4;
  if (rows > coarse && rows <= 2 * coarse) return round_up(rows, step);
  return power_of_two_from(std::max(rows, least_size));
}

FusedCalls forward_calls(const RunsOfAttention& runs) {
  constexpr std::int64_t most_documents = 1 << 13;
  FusedCalls result;
  std::map<Class, std::vector<DocumentPart>> classes;
  for (const DocumentPart& part : parts_of(runs, result)) classes[class_of(part)].push_back(part);
  for (const auto& [of, parts] : classes) add_calls(of, parts, runs.heads, runs.heads, most_documents, result.calls);
  return result;
}

FusedCalls backward_calls(const RunsOfAttention& runs, std::int64_t most_bytes) {
  FusedCalls result;
  std::map<Class, std::vector<DocumentPart>> classes;
  const auto bytes_of = [](const Class& of) { return backward_workspace(1, 1, std::get<1>(of), std::get<2>(of)); };
  const auto add = [&](const Class& of, const std::vector<DocumentPart>& parts, bool one_part_a_call) {
    const std::int64_t most = std::max<std::int64_t>(most_bytes / bytes_of(of), 1), groups = ceil_div(runs.heads, most),
                       heads = ceil_div(runs.heads, groups);
    add_calls(of, parts, runs.heads, heads, one_part_a_call ? 1 : power_of_two_up_to(most / heads), result.calls);
  };
  std::int64_t block = least_size;
  while (bytes_of({PairMask::all, 2 * block, 2 * block}) <= most_bytes) block *= 2;
  for (const DocumentPart& part : parts_of(runs, result)) {
    if (bytes_of(class_of(part)) <= most_bytes) {
      classes[class_of(part)].push_back(part);
      continue;
    }
    result.cut.push_back(part);
    std::vector<DocumentPart> blocks;
    cut(part, block, blocks);
    const std::size_t first = result.calls.size();
    for (const DocumentPart& one : blocks) add(class_of(one), {one}, true);
    for (std::size_t i = first; i < result.calls.size(); ++i) result.calls[i].of_cut = true;
  }
  for (const auto& [of, parts] : classes) add(of, parts, false);
  return result;
}

std::int64_t backward_bytes(const RunsOfAttention& runs, std::int64_t most_bytes, std::int64_t elements_of_head) {
  constexpr std::int64_t narrow = 2, wide = 4;  // bytes of an element
  const FusedCalls calls = backward_calls(runs, most_bytes);
  std::int64_t workspace = 0, rows = 0, rows_of_gradients = 0;
  for (const FusedCall& call : calls.calls) {
    workspace = std::max(workspace, backward_workspace(call.documents, call.heads, call.queries, call.keys));
    rows = std::max(rows, call.parts.back().query + call.parts.back().queries - call.parts.front().query);
    if (call.of_cut)
      rows_of_gradients =
          std::max(rows_of_gradients, 3 * std::max(call.parts.front().queries, call.parts.front().keys));
  }
  std::int64_t bytes = workspace + (rows + rows_of_gradients) * runs.heads * elements_of_head * narrow;
  for (const DocumentPart& document : calls.cut)
    bytes += (document.queries + 2 * document.keys) * runs.heads * elements_of_head * wide;
  return bytes;
}

std::vector<ShortBlock> short_blocks(const SegmentsView& segments, std::vector<std::uint8_t>& computed) {
  std::vector<ShortBlock> blocks;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const std::int64_t row = std::clamp<std::int64_t>(segments.host[s], 0, segments.tokens),
                       rows = std::clamp<std::int64_t>(segments.host[s + 1], 0, segments.tokens) - row;
    if (rows == 0 || rows >= least_fused_rows || computed[static_cast<std::size_t>(s)] != 0) continue;
    computed[static_cast<std::size_t>(s)] = 1;
    if (blocks.empty() || blocks.back().row + blocks.back().rows != row ||
        blocks.back().rows + rows > rows_of_short_block)
      blocks.push_back(
          {.document = static_cast<std::int32_t>(s), .documents = 0, .row = static_cast<std::int32_t>(row), .rows = 0});
    ++blocks.back().documents;
    blocks.back().rows += static_cast<std::int32_t>(rows);
  }
  return blocks;
}

}  // namespace causeway::cuda
