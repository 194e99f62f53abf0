#include "kernels/cuda/attention/attention.cuh"

#include <vector>

#include "kernels/attention_sums.hpp"
#include "kernels/cuda/attention/attention_short.cuh"
#include "kernels/cuda/attention/fused_attention.cuh"
#include "kernels/cuda/attention/fused_graphs.hpp"
#include "kernels/expect_attention.hpp"

/// The operators: which kernels compute which documents.
namespace causeway::cuda {
namespace {

/// Whether only the SIMT kernels compute it.
bool is_simt(const AttentionInputs& in) {
  return in.q.dtype != DType::bf16 || in.q.shape[2] > 256 || in.q.shape[1] > 65535;
}

/// The gradients in float32, added to.
void add_gradients(const Stream& stream, const AttentionBackward& args) {
  if (args.in.q.size() == 0 || args.in.k.size() == 0) return;
  if (is_simt(args.in)) return simt_attention_backward(stream, args);
  if constexpr (!has_fused_attention) return tile_attention_backward(stream, args, nullptr);
  std::vector<std::uint8_t> computed = fused_attention_backward(stream, args);
  short_attention_backward(stream, args, computed);
  const RemainingDocuments remaining(stream, args.in.segments, computed);
  if (remaining.any()) tile_attention_backward(stream, args, remaining.computed());
}

/// Writes the gradients, rounded or not, if the kernels that can do so compute all documents.
bool write_gradients(const Stream& stream, const AttentionBackward& args) {
  if (!has_fused_attention || is_simt(args.in) || !has_own_keys(args.in) || args.in.q.size() == 0) return false;
  std::vector<std::uint8_t> computed = fused_attention_backward(stream, args);
  short_attention_backward(stream, args, computed);
  return !RemainingDocuments(stream, args.in.segments, computed).any();
}

}  // namespace

void attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  expect_attention(args);
  if (args.lse.size() == 0) return;
  if (is_simt(in)) return simt_attention_forward(stream, args);
  if constexpr (!has_fused_attention) return tile_attention_forward(stream, args, nullptr);
  std::vector<std::uint8_t> computed = fused_attention_forward(stream, args);
  short_attention_forward(stream, args, computed);
  const RemainingDocuments remaining(stream, in.segments, computed);
  if (remaining.any()) tile_attention_forward(stream, args, remaining.computed());
}

void attention_backward(const Stream& stream, const AttentionBackward& args) {
  expect_attention(args);
  if (!args.accumulate && write_gradients(stream, args)) return;
  const AttentionSums sums(stream, args);
  add_gradients(stream, sums.added());
  sums.store();
}

AttentionForm attention_form(const AttentionInputs& in) {
  if (!has_fused_attention || in.q.dtype != DType::bf16 || in.q.shape[2] != fused_head || !has_fused_graphs())
    return {};
  AttentionInputs any = in;
  const std::int64_t one_document[] = {in.q.shape[0] - in.k.shape[0], in.q.shape[0]};
  if (in.segments.host == nullptr) {
    any.key_offset = one_document[0];
    any.segments = {.cu_seqlens = nullptr, .count = 1, .tokens = in.q.shape[0], .host = one_document};
  }
  return {.fused = true, .workspace = fused_attention_workspace(any)};
}

}  // namespace causeway::cuda
