#include "kernels/cuda/attention/fused_attention.cuh"

#include <algorithm>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/cuda/attention/fused_graphs.hpp"
#include "kernels/cuda/attention/fused_rows.cuh"

namespace causeway::cuda {
namespace {

using namespace fused_rows;

/// The index arrays of calls, made in host memory and uploaded together.
class Indices {
 public:
  /// documents + 1 offsets: of(part) for each part, then `end` for the empty ones.
  template <class Of>
  std::size_t add_offsets(const FusedCall& call, const Of& of, std::int64_t end) {
    const std::size_t at = entries_.size();
    for (const DocumentPart& part : call.parts) entries_.push_back(of(part));
    entries_.resize(at + static_cast<std::size_t>(call.documents) + 1, end);
    return at;
  }
  /// The numbers of rows as int32, two in an entry; 0 for the empty documents.
  template <class Of>
  std::size_t add_lengths(const FusedCall& call, const Of& of) {
    const std::size_t at = entries_.size();
    entries_.resize(at + static_cast<std::size_t>(ceil_div(call.documents, 2)));
    auto* const lengths = reinterpret_cast<std::int32_t*>(entries_.data() + at);
    for (std::size_t i = 0; i < call.parts.size(); ++i) lengths[i] = static_cast<std::int32_t>(of(call.parts[i]));
    return at;
  }
  std::size_t add(const std::vector<PartRows>& parts) {
    const std::size_t at = entries_.size();
    for (const PartRows& part : parts)
      entries_.insert(entries_.end(),
                      {part.query, part.queries, part.temporary_query, part.key, part.keys, part.temporary_key});
    return at;
  }
  void upload(const Stream& stream) {
    device_ = Tensor(stream, DType::i64, {static_cast<std::int64_t>(entries_.size())});
    stream.upload(device_.view().data, entries_.data(), device_.view().bytes());
  }
  template <class T>
  const T* at(std::size_t entry) const {
    return reinterpret_cast<const T*>(static_cast<const std::int64_t*>(device_.view().data) + entry);
  }

 private:
  std::vector<std::int64_t> entries_;
  Tensor device_;
};

/// A call with its graph and the places of its index arrays.
struct Prepared {
  const FusedCall* call;
  std::shared_ptr<const FusedGraph> graph;
  std::array<std::size_t, fused_layouts> offsets{};
  std::size_t queries = 0, keys = 0, parts = 0;
  std::int64_t query, key;  ///< the first rows of the runs that the call uses; its offsets count from there
  std::int64_t query_rows, key_rows;
};

/// The rows from the first part's to the last part's.
void find_rows(Prepared& one) {
  const DocumentPart &first = one.call->parts.front(), &last = one.call->parts.back();
  one.query = first.query;
  one.key = first.key;
  one.query_rows = last.query + last.queries - first.query;
  one.key_rows = last.key + last.keys - first.key;
}

/// The graphs and index arrays of calls, in order; none if a graph does not exist.
std::vector<Prepared> prepare(const Stream& stream, const std::vector<FusedCall>& calls, bool backward,
                              const std::array<std::int64_t, fused_layouts>& strides, Indices& indices) {
  FusedGraphs& graphs = stream.resource<FusedGraphs>();
  std::vector<Prepared> all;
  for (const FusedCall& call : calls) {
    Prepared one{.call = &call, .graph = {}, .query = 0, .key = 0, .query_rows = 0, .key_rows = 0};
    find_rows(one);
    one.graph = graphs.find(stream, {.backward = backward,
                                     .mask = call.mask,
                                     .documents = call.documents,
                                     .heads = call.heads,
                                     .queries = call.queries,
                                     .keys = call.keys,
                                     .strides = strides});
    if (one.graph == nullptr || one.graph->workspace() < 0) return {};
    for (std::size_t i = 0; i < fused_layouts; ++i) {
      const bool of_keys = FusedLayout{static_cast<std::uint8_t>(i)} == FusedLayout::k ||
                           FusedLayout{static_cast<std::uint8_t>(i)} == FusedLayout::v;
      const auto first_of = [&](const DocumentPart& part) {
        return (of_keys ? part.key - one.key : part.query - one.query) * strides[i];
      };
      one.offsets[i] = indices.add_offsets(call, first_of, (of_keys ? one.key_rows : one.query_rows) * strides[i]);
    }
    one.queries = indices.add_lengths(call, [](const DocumentPart& part) { return part.queries; });
    one.keys = indices.add_lengths(call, [](const DocumentPart& part) { return part.keys; });
    std::vector<PartRows> parts;
    for (const DocumentPart& part : call.parts)
      parts.push_back({part.query, part.queries, part.query - one.query, part.key, part.keys, part.key - one.key});
    one.parts = indices.add(parts);
    all.push_back(std::move(one));
  }
  indices.upload(stream);
  return all;
}

FusedMemory memory_of(const Prepared& one, const Indices& indices, TensorView workspace) {
  FusedMemory memory{.queries = indices.at<std::int32_t>(one.queries),
                     .keys = indices.at<std::int32_t>(one.keys),
                     .workspace = workspace.data};
  for (std::size_t i = 0; i < fused_layouts; ++i) memory.offsets[i] = indices.at<std::int64_t>(one.offsets[i]);
  return memory;
}

Tensor workspace_of(const Stream& stream, const std::vector<Prepared>& calls) {
  std::int64_t bytes = 0;
  for (const Prepared& one : calls) bytes = std::max(bytes, one.graph->workspace());
  return Tensor(stream, DType::u8, {std::max<std::int64_t>(bytes, 1)});
}

/// The launch of a kernel over the heads of all rows of a call's parts.
dim3 grid_over(const FusedCall& call, std::int64_t rows, unsigned count = 1) {
  return dim3(grid_of(rows * call.heads * lanes, threads), static_cast<unsigned>(call.parts.size()), count);
}

RunsOfAttention runs_of(const AttentionInputs& in) {
  return {.segments = in.segments, .keys = in.k.rows(), .key_offset = in.key_offset, .heads = in.q.shape[1]};
}

/// Where cuDNN finds a tensor [tokens, H, 128], or lse [tokens, H]: from row `row` and head `head` on.
void* address_of(TensorView x, std::int64_t row, std::int64_t head) {
  return static_cast<std::byte*>(x.data) +
         (row * x.row_stride + head * (x.shape.rank() == 3 ? fused_head : 1)) * size_of(x.dtype);
}

/// Rows for y of a call, in bf16, with another tensor's row stride.
struct Temporary {
  Tensor memory;
  std::int64_t stride;

  Temporary(const Stream& stream, std::int64_t rows, std::int64_t row_stride)
      : memory(stream, DType::bf16, {rows * row_stride}), stride(row_stride) {}
  void* from_head(std::int64_t head) const { return static_cast<bf16*>(memory.view().data) + head * fused_head; }
};

/// Rows for the gradients of calls, in bf16, with the row strides of the inputs. If these are columns of one tensor
/// [tokens, 3 H 128], so are the gradients: rows of their own would have two thirds that nothing uses.
class TemporaryGradients {
 public:
  TemporaryGradients(const Stream& stream, const std::array<std::int64_t, 3>& rows,
                     const std::array<TensorView, 3>& inputs) {
    const std::int64_t stride = inputs[0].row_stride, width = inputs[0].shape[1] * fused_head;
    const bool side_by_side = stride >= 3 * width && inputs[1].row_stride == stride && inputs[2].row_stride == stride;
    if (side_by_side) memory_[0] = Tensor(stream, DType::bf16, {std::ranges::max(rows) * stride});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!side_by_side) memory_[i] = Tensor(stream, DType::bf16, {rows[i] * inputs[i].row_stride});
      first_[i] = static_cast<bf16*>(memory_[side_by_side ? 0 : i].view().data) +
                  (side_by_side ? static_cast<std::int64_t>(i) * width : 0);
    }
  }
  void* from_head(std::size_t i, std::int64_t head) const { return first_[i] + head * fused_head; }

 private:
  std::array<Tensor, 3> memory_;
  std::array<bf16*, 3> first_{};
};

bool fits(const AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] == fused_head && rows_start_aligned({in.q, in.k, in.v}, width);
}
/// Whether packets of 8 elements of a head can be accessed.
bool packets_start_aligned(TensorView x) { return rows_start_aligned({x}, x.dtype == DType::bf16 ? width : 4); }

/// Where the gradients of cut documents are summed: in the caller's tensors if these are added to or in float32, and
/// otherwise in float32 beside them.
class CutSums {
 public:
  CutSums(const Stream& stream, const AttentionBackward& args, const std::vector<DocumentPart>& documents)
      : stream_(stream), documents_(documents), results_{args.d_q, args.d_k, args.d_v}, sums_(results_) {
    if (args.accumulate || documents.empty()) return;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      if (results_[i].dtype == DType::bf16) {
        memory_[i] = Tensor(stream, DType::f32, results_[i].shape);
        sums_[i] = memory_[i];
      }
      for (const DocumentPart& document : documents) fill(stream, {.value = 0, .y = rows_of(document, i, sums_[i])});
    }
  }

  TensorView operator[](std::size_t i) const { return sums_[i]; }
  void store() const {
    for (std::size_t i = 0; i < sums_.size(); ++i)
      for (const DocumentPart& document : documents_)
        if (memory_[i].present())
          scale(stream_, {.x = rows_of(document, i, sums_[i]), .y = rows_of(document, i, results_[i])});
  }

 private:
  static TensorView rows_of(const DocumentPart& document, std::size_t i, TensorView x) {
    return i == 0 ? x.slice_rows(document.query, document.queries) : x.slice_rows(document.key, document.keys);
  }

  const Stream& stream_;
  const std::vector<DocumentPart>& documents_;
  std::array<TensorView, 3> results_, sums_;
  std::array<Tensor, 3> memory_;
};

}  // namespace

std::vector<std::uint8_t> fused_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const std::vector<std::uint8_t> none(static_cast<std::size_t>(in.segments.count));
  const bool wide = args.y.dtype == DType::f32, direct = !wide && !args.accumulate;
  if (!fits(in) || !packets_start_aligned(args.y)) return none;
  const FusedCalls calls = forward_calls(runs_of(in));
  if (calls.calls.empty()) return none;
  Indices indices;
  const std::int64_t y_stride = direct ? args.y.row_stride : in.q.shape[1] * fused_head,
                     lse_stride = args.accumulate ? in.q.shape[1] : args.lse.row_stride;
  const std::vector<Prepared> prepared = prepare(
      stream, calls.calls, false, {in.q.row_stride, in.k.row_stride, in.v.row_stride, y_stride, lse_stride}, indices);
  if (prepared.empty()) return none;
  const Tensor workspace = workspace_of(stream, prepared),
               new_y = direct ? Tensor() : Tensor(stream, DType::bf16, args.y.shape),
               new_lse = args.accumulate ? Tensor(stream, DType::f32, args.lse.shape) : Tensor();
  const TensorView y = direct ? args.y : new_y.view(), lse = args.accumulate ? new_lse.view() : args.lse;
  for (const Prepared& one : prepared) {
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {address_of(in.q, one.query, 0), address_of(in.k, one.key, 0), address_of(in.v, one.key, 0),
                   address_of(y, one.query, 0), address_of(lse, one.query, 0)};
    one.graph->run(stream, memory);
    if (direct) continue;
    merge<<<grid_over(*one.call, one.call->queries), threads, 0, native_of(stream)>>>(
        indices.at<PartRows>(one.parts),
        {.new_y = {y, 0},
         .new_lse = {lse, 0},
         .y = args.y.data,
         .lse = {args.lse, 0},
         .y_stride = args.y.row_stride,
         .wide = wide,
         .accumulate = args.accumulate},
        static_cast<int>(one.call->heads));
    cuda_check(cudaGetLastError());
  }
  return calls.computed;
}

std::vector<std::uint8_t> fused_attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const std::vector<std::uint8_t> none(static_cast<std::size_t>(in.segments.count));
  const std::array<TensorView, 3> inputs{in.q, in.k, in.v}, results{args.d_q, args.d_k, args.d_v};
  if (!fits(in) || !packets_start_aligned(args.d_y) || !std::ranges::all_of(results, packets_start_aligned))
    return none;
  if (!args.accumulate && !has_own_keys(in)) return none;
  const FusedCalls calls = backward_calls(runs_of(in), most_workspace);
  if (calls.calls.empty()) return none;
  Indices indices;
  const std::vector<Prepared> prepared =
      prepare(stream, calls.calls, true,
              {in.q.row_stride, in.k.row_stride, in.v.row_stride, args.d_y.row_stride, args.lse.row_stride}, indices);
  if (prepared.empty()) return none;
  // cuDNN writes a gradient directly to its place if that is in bf16 and has its input's layout.
  const auto is_direct = [&](const FusedCall& call, std::size_t i) {
    return !args.accumulate && !call.of_cut && results[i].dtype == DType::bf16 &&
           results[i].row_stride == inputs[i].row_stride;
  };
  std::int64_t query_rows = 0;
  std::array<std::int64_t, 3> temporary_rows{};
  for (const Prepared& one : prepared) {
    query_rows = std::max(query_rows, one.query_rows);
    for (std::size_t i = 0; i < temporary_rows.size(); ++i)
      if (!is_direct(*one.call, i))
        temporary_rows[i] = std::max(temporary_rows[i], i == 0 ? one.query_rows : one.key_rows);
  }
  const Tensor workspace = workspace_of(stream, prepared);
  const Temporary y(stream, query_rows, args.d_y.row_stride);
  const TemporaryGradients gradients(stream, temporary_rows, inputs);
  const CutSums sums(stream, args, calls.cut);
  for (const Prepared& one : prepared) {
    const FusedCall& call = *one.call;
    const std::int64_t head = call.head;
    const int heads = static_cast<int>(call.heads);
    const auto* const parts = indices.at<PartRows>(one.parts);
    make_y<<<grid_over(call, call.queries), threads, 0, native_of(stream)>>>(
        parts, SomeHeads<const bf16>(args.d_y, head), SomeHeads<const float>(args.delta, head),
        SomeHeads<bf16>(y.from_head(head), y.stride), heads);
    cuda_check(cudaGetLastError());
    GradientMoves moves;
    std::array<void*, 3> written{};
    for (std::size_t i = 0; i < written.size(); ++i) {
      const TensorView to = call.of_cut ? sums[i] : results[i];
      const bool direct = is_direct(call, i);
      written[i] = direct ? address_of(to, i == 0 ? one.query : one.key, head) : gradients.from_head(i, head);
      moves.of[i] = {.from = {written[i], inputs[i].row_stride},
                     .to = address_of(to, 0, head),
                     .stride = to.row_stride,
                     .wide = to.dtype == DType::f32,
                     .added = args.accumulate || call.of_cut,
                     .done = direct};
    }
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {address_of(in.q, one.query, head),
                   address_of(in.k, one.key, head),
                   address_of(in.v, one.key, head),
                   y.from_head(head),
                   address_of(args.lse, one.query, head),
                   address_of(args.d_y, one.query, head),
                   written[0],
                   written[1],
                   written[2]};
    one.graph->run(stream, memory);
    if (moves.of[0].done && moves.of[1].done && moves.of[2].done) continue;
    move<<<grid_over(call, std::max(call.queries, call.keys), 3), threads, 0, native_of(stream)>>>(parts, moves, heads);
    cuda_check(cudaGetLastError());
  }
  sums.store();
  return calls.computed;
}

std::int64_t fused_attention_workspace(const AttentionInputs& in) {
  return backward_bytes(runs_of(in), most_workspace, fused_head);
}

RemainingDocuments::RemainingDocuments(const Stream& stream, const SegmentsView& segments,
                                       const std::vector<std::uint8_t>& computed) {
  bool some_computed = false;
  for (std::int64_t s = 0; s < segments.count; ++s) {
    const bool done = computed[static_cast<std::size_t>(s)] != 0;
    some_computed = some_computed || done;
    any_ = any_ || (!done && segments.host[s] < segments.tokens);
  }
  if (!any_ || !some_computed) return;
  flags_ = Tensor(stream, DType::u8, {segments.count});
  stream.upload(flags_.view().data, computed.data(), flags_.view().bytes());
}

}  // namespace causeway::cuda
