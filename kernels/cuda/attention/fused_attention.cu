#include "kernels/cuda/attention/fused_attention.cuh"

#include <algorithm>
#include <vector>

#include "kernels/cuda/attention/fused_graphs.hpp"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/tensor_core.cuh"

namespace causeway::cuda {
namespace {

/// Bytes of workspace of one backward call. At 64K tokens and 32 heads, half of it costs 5 % more time.
constexpr std::int64_t most_workspace = std::int64_t{9} << 30;

constexpr int threads = 256, lanes = 16, width = 8;  // a head of a token: 16 threads, 8 elements each
static_assert(lanes * width == fused_head);

/// A part of a call, in device memory. Temporary tensors begin with the call's first row: `temporary_query` and
/// `temporary_key` are rows of them.
struct PartRows {
  std::int64_t query, queries, temporary_query;
  std::int64_t key, keys, temporary_key;
};
static_assert(sizeof(PartRows) == 6 * sizeof(std::int64_t));

/// A tensor [tokens, H, 128] from which a call uses some heads.
template <class T>
struct SomeHeads {
  T* data;
  std::int64_t stride;

  /// From `head` on; of a [tokens, H] tensor, such as delta, one element a head.
  SomeHeads(TensorView x, std::int64_t head)
      : data(static_cast<T*>(x.data) + head * (x.shape.rank() == 3 ? fused_head : 1)), stride(x.row_stride) {}
  SomeHeads(void* first, std::int64_t row_stride) : data(static_cast<T*>(first)), stride(row_stride) {}
};

/// Which head of which token of its part a thread works on, and from which element. The last threads of a part may be
/// beyond its rows: `inside` is false and the row 0.
struct Place {
  std::int64_t row;
  int head, element;
  bool inside;

  __device__ Place(std::int64_t rows, int heads) {
    const std::int64_t at = (std::int64_t{blockIdx.x} * threads + threadIdx.x) / lanes;
    inside = at < rows * heads;
    row = inside ? at / heads : 0;
    head = static_cast<int>(inside ? at % heads : 0);
    element = head * static_cast<int>(fused_head) + static_cast<int>(threadIdx.x) % lanes * width;
  }
};

/// y = the narrow result of the fused kernel.
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements
__global__ void __launch_bounds__(threads)
    widen(const PartRows* parts, SomeHeads<const bf16> from, SomeHeads<float> to, int heads) {
  const PartRows part = parts[blockIdx.y];
  const Place at(part.queries, heads);
  if (!at.inside) return;
  const auto x = Packet<bf16, width>::load(from.data + (part.query + at.row) * from.stride + at.element);
  float* const target = to.data + (part.query + at.row) * to.stride + at.element;
#pragma unroll
  for (int i = 0; i < width; i += 4)
    *reinterpret_cast<float4*>(target + i) = {static_cast<float>(x.at[i]), static_cast<float>(x.at[i + 1]),
                                              static_cast<float>(x.at[i + 2]), static_cast<float>(x.at[i + 3])};
}

/// A y with ⟨y, d_y⟩ = delta. cuDNN computes delta from y and d_y; our interface passes delta only. y = delta·d_y/⟨d_y,
/// d_y⟩: rounded to bf16 it gives delta with a relative error of about 2^-12. d_y is divided by the power of two below
/// its largest element, so that its square stays in range.
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements of a head; 16 threads add their sums
__global__ void __launch_bounds__(threads) make_y(const PartRows* parts, SomeHeads<const bf16> d_y,
                                                  SomeHeads<const float> delta, SomeHeads<bf16> y, int heads) {
  const PartRows part = parts[blockIdx.y];
  const Place at(part.queries, heads);
  const auto x = Packet<bf16, width>::load(d_y.data + (part.query + at.row) * d_y.stride + at.element);
  float value[width], largest = 0, square = 0;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    value[i] = static_cast<float>(x.at[i]);
    largest = fmaxf(largest, fabsf(value[i]));
  }
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  const float power = __uint_as_float(__float_as_uint(largest) & 0x7f800000u), inverse = power == 0 ? 0 : 1 / power;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    value[i] *= inverse;
    square += value[i] * value[i];
  }
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) square += __shfl_xor_sync(~0u, square, step);
  if (!at.inside) return;
  const float factor = square == 0 ? 0 : delta.data[(part.query + at.row) * delta.stride + at.head] * inverse / square;
  uint4 packed;
  packed.x = pack_bf16(value[0] * factor, value[1] * factor);
  packed.y = pack_bf16(value[2] * factor, value[3] * factor);
  packed.z = pack_bf16(value[4] * factor, value[5] * factor);
  packed.w = pack_bf16(value[6] * factor, value[7] * factor);
  *reinterpret_cast<uint4*>(y.data + (part.temporary_query + at.row) * y.stride + at.element) = packed;
}

/// d_q, d_k and d_v += the fused kernel's (blockIdx.z: which).
///
/// block: 16 heads of tokens of one part (blockIdx.y)
/// thread: eight elements
struct AddedGradients {
  SomeHeads<const bf16> from[3];
  SomeHeads<float> to[3];
};
__global__ void __launch_bounds__(threads) add(const PartRows* parts, AddedGradients gradients, int heads) {
  const PartRows part = parts[blockIdx.y];
  const bool of_queries = blockIdx.z == 0;
  const Place at(of_queries ? part.queries : part.keys, heads);
  if (!at.inside) return;
  const SomeHeads<const bf16>& from = gradients.from[blockIdx.z];
  const SomeHeads<float>& to = gradients.to[blockIdx.z];
  const std::int64_t source = (of_queries ? part.temporary_query : part.temporary_key) + at.row,
                     row = (of_queries ? part.query : part.key) + at.row;
  const auto x = Packet<bf16, width>::load(from.data + source * from.stride + at.element);
  auto* const target = reinterpret_cast<float4*>(to.data + row * to.stride + at.element);
  float4 sum[2] = {target[0], target[1]};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i].x += static_cast<float>(x.at[4 * i]);
    sum[i].y += static_cast<float>(x.at[4 * i + 1]);
    sum[i].z += static_cast<float>(x.at[4 * i + 2]);
    sum[i].w += static_cast<float>(x.at[4 * i + 3]);
    target[i] = sum[i];
  }
}

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

/// Rows for the results of calls, in bf16, with another tensor's row stride.
struct Temporary {
  Tensor memory;
  std::int64_t stride;

  Temporary(const Stream& stream, std::int64_t rows, std::int64_t row_stride)
      : memory(stream, DType::bf16, {rows * row_stride}), stride(row_stride) {}
  void* from_head(std::int64_t head) const { return static_cast<bf16*>(memory.view().data) + head * fused_head; }
};

bool fits(const AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] == fused_head && rows_start_aligned({in.q, in.k, in.v}, width);
}

}  // namespace

std::vector<std::uint8_t> fused_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const std::vector<std::uint8_t> none(static_cast<std::size_t>(in.segments.count));
  const bool narrow = args.y.dtype == DType::bf16;
  if (args.accumulate || !fits(in) || !rows_start_aligned({args.y}, narrow ? width : 4)) return none;
  const FusedCalls calls = forward_calls(runs_of(in));
  if (calls.calls.empty()) return none;
  Indices indices;
  const std::int64_t y_stride = narrow ? args.y.row_stride : in.q.shape[1] * fused_head;
  const std::vector<Prepared> prepared =
      prepare(stream, calls.calls, false,
              {in.q.row_stride, in.k.row_stride, in.v.row_stride, y_stride, args.lse.row_stride}, indices);
  if (prepared.empty()) return none;
  const Tensor workspace = workspace_of(stream, prepared),
               narrow_y = narrow ? Tensor() : Tensor(stream, DType::bf16, args.y.shape);
  const TensorView y = narrow ? args.y : narrow_y.view();
  for (const Prepared& one : prepared) {
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {address_of(in.q, one.query, 0), address_of(in.k, one.key, 0), address_of(in.v, one.key, 0),
                   address_of(y, one.query, 0), address_of(args.lse, one.query, 0)};
    one.graph->run(stream, memory);
    if (narrow) continue;
    widen<<<grid_over(*one.call, one.call->queries), threads, 0, native_of(stream)>>>(
        indices.at<PartRows>(one.parts), SomeHeads<const bf16>(y, 0), SomeHeads<float>(args.y, 0),
        static_cast<int>(one.call->heads));
    cuda_check(cudaGetLastError());
  }
  return calls.computed;
}

std::vector<std::uint8_t> fused_attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  const std::vector<std::uint8_t> none(static_cast<std::size_t>(in.segments.count));
  if (!fits(in) || !rows_start_aligned({args.d_y}, width) || !rows_start_aligned({args.d_q, args.d_k, args.d_v}, 4))
    return none;
  const FusedCalls calls = backward_calls(runs_of(in), most_workspace);
  if (calls.calls.empty()) return none;
  Indices indices;
  const std::vector<Prepared> prepared =
      prepare(stream, calls.calls, true,
              {in.q.row_stride, in.k.row_stride, in.v.row_stride, args.d_y.row_stride, args.lse.row_stride}, indices);
  if (prepared.empty()) return none;
  std::int64_t query_rows = 0, key_rows = 0;
  for (const Prepared& one : prepared) {
    query_rows = std::max(query_rows, one.query_rows);
    key_rows = std::max(key_rows, one.key_rows);
  }
  const Tensor workspace = workspace_of(stream, prepared);
  const Temporary y(stream, query_rows, args.d_y.row_stride), d_q(stream, query_rows, in.q.row_stride),
      d_k(stream, key_rows, in.k.row_stride), d_v(stream, key_rows, in.v.row_stride);
  for (const Prepared& one : prepared) {
    const FusedCall& call = *one.call;
    const std::int64_t head = call.head;
    const int heads = static_cast<int>(call.heads);
    const auto* const parts = indices.at<PartRows>(one.parts);
    make_y<<<grid_over(call, call.queries), threads, 0, native_of(stream)>>>(
        parts, SomeHeads<const bf16>(args.d_y, head), SomeHeads<const float>(args.delta, head),
        SomeHeads<bf16>(y.from_head(head), y.stride), heads);
    cuda_check(cudaGetLastError());
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {address_of(in.q, one.query, head),
                   address_of(in.k, one.key, head),
                   address_of(in.v, one.key, head),
                   y.from_head(head),
                   address_of(args.lse, one.query, head),
                   address_of(args.d_y, one.query, head),
                   d_q.from_head(head),
                   d_k.from_head(head),
                   d_v.from_head(head)};
    one.graph->run(stream, memory);
    const AddedGradients gradients{.from = {{d_q.from_head(head), d_q.stride},
                                            {d_k.from_head(head), d_k.stride},
                                            {d_v.from_head(head), d_v.stride}},
                                   .to = {{args.d_q, head}, {args.d_k, head}, {args.d_v, head}}};
    add<<<grid_over(call, std::max(call.queries, call.keys), 3), threads, 0, native_of(stream)>>>(parts, gradients,
                                                                                                  heads);
    cuda_check(cudaGetLastError());
  }
  return calls.computed;
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
