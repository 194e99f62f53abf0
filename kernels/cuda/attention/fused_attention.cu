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

/// A part of a call in device memory. Temporary tensors contain only the rows of the call's parts, one part after the
/// other, and only its heads.
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

  SomeHeads(TensorView x, std::int64_t head)
      : data(static_cast<T*>(x.data) + head * (x.shape.rank() == 3 ? fused_head : 1)), stride(x.row_stride) {}
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
  /// documents + 1 offsets: of(part) for each part, then end(last part) for the empty ones.
  template <class Of, class End>
  std::size_t add_offsets(const FusedCall& call, const Of& of, const End& end) {
    const std::size_t at = entries_.size();
    for (const DocumentPart& part : call.parts) entries_.push_back(of(part));
    entries_.resize(at + static_cast<std::size_t>(call.documents) + 1, end(call.parts.back()));
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
  std::array<std::size_t, fused_tensors> offsets{};
  std::size_t queries = 0, keys = 0, parts = 0;  ///< of Indices
  std::int64_t query_rows = 0, key_rows = 0;  ///< of all parts
};

std::int64_t& stride_of(FusedShape& shape, FusedTensor tensor) {
  std::int64_t* const strides[] = {&shape.q_stride,   &shape.k_stride,   &shape.v_stride,
                                   &shape.y_stride,   &shape.lse_stride, &shape.d_y_stride,
                                   &shape.d_q_stride, &shape.d_k_stride, &shape.d_v_stride};
  return *strides[static_cast<std::size_t>(tensor)];
}

bool of_keys(FusedTensor tensor) {
  return tensor == FusedTensor::k || tensor == FusedTensor::v || tensor == FusedTensor::d_k ||
         tensor == FusedTensor::d_v;
}

/// The graphs and index arrays of calls, in order; none if a graph does not exist. `strides`: of each tensor, 0 for a
/// temporary one.
std::vector<Prepared> prepare(const Stream& stream, const std::vector<FusedCall>& calls, bool backward,
                              const std::array<std::int64_t, fused_tensors>& strides, Indices& indices) {
  FusedGraphs& graphs = stream.resource<FusedGraphs>();
  std::vector<Prepared> all;
  for (const FusedCall& call : calls) {
    FusedShape shape{.backward = backward,
                     .mask = call.mask,
                     .documents = call.documents,
                     .heads = call.heads,
                     .queries = call.queries,
                     .keys = call.keys};
    Prepared one{.call = &call};
    std::vector<PartRows> parts;
    for (const DocumentPart& part : call.parts) {
      parts.push_back({part.query, part.queries, one.query_rows, part.key, part.keys, one.key_rows});
      one.query_rows += part.queries;
      one.key_rows += part.keys;
    }
    for (std::size_t i = 0; i < (backward ? fused_tensors : std::size_t{5}); ++i) {
      const auto tensor = FusedTensor{static_cast<std::uint8_t>(i)};
      const bool keys = of_keys(tensor);
      const std::int64_t stride = strides[i] != 0 ? strides[i] : call.heads * fused_head;
      stride_of(shape, tensor) = stride;
      std::int64_t next = 0;
      const auto rows_of = [&](const DocumentPart& part) { return keys ? part.keys : part.queries; };
      const auto first_of = [&](const DocumentPart& part) {
        if (strides[i] != 0) return (keys ? part.key : part.query) * stride;
        const std::int64_t first = next;
        next += rows_of(part);
        return first * stride;
      };
      one.offsets[i] = indices.add_offsets(call, first_of, [&](const DocumentPart& part) {
        return strides[i] != 0 ? ((keys ? part.key : part.query) + rows_of(part)) * stride : next * stride;
      });
    }
    one.queries = indices.add_lengths(call, [](const DocumentPart& part) { return part.queries; });
    one.keys = indices.add_lengths(call, [](const DocumentPart& part) { return part.keys; });
    one.parts = indices.add(parts);
    one.graph = graphs.find(stream, shape);
    if (one.graph == nullptr || one.graph->workspace() < 0) return {};
    all.push_back(std::move(one));
  }
  indices.upload(stream);
  return all;
}

FusedMemory memory_of(const Prepared& one, const Indices& indices, TensorView workspace) {
  FusedMemory memory{.queries = indices.at<std::int32_t>(one.queries),
                     .keys = indices.at<std::int32_t>(one.keys),
                     .workspace = workspace.data};
  for (std::size_t i = 0; i < fused_tensors; ++i) memory.offsets[i] = indices.at<std::int64_t>(one.offsets[i]);
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

RemainingDocuments remaining_of(const Stream& stream, const FusedCalls& calls) {
  RemainingDocuments remaining{.any = calls.leaves_some, .computed = {}};
  if (!calls.leaves_some) return remaining;
  remaining.computed = Tensor(stream, DType::u8, {static_cast<std::int64_t>(calls.computed.size())});
  stream.upload(remaining.computed.view().data, calls.computed.data(), remaining.computed.view().bytes());
  return remaining;
}

RunsOfAttention runs_of(const AttentionInputs& in) {
  return {.segments = in.segments, .keys = in.k.rows(), .key_offset = in.key_offset, .heads = in.q.shape[1]};
}

/// A tensor's first element for cuDNN, from `head` on.
void* address_of(TensorView x, std::int64_t head) {
  return static_cast<std::byte*>(x.data) + head * fused_head * size_of(x.dtype);
}

bool fits(const AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] == fused_head && rows_start_aligned({in.q, in.k, in.v}, width);
}

}  // namespace

RemainingDocuments fused_attention_forward(const Stream& stream, const AttentionForward& args) {
  const AttentionInputs& in = args.in;
  const bool narrow = args.y.dtype == DType::bf16;
  if (args.accumulate || !fits(in) || !rows_start_aligned({args.y}, narrow ? width : 4)) return {};
  const FusedCalls calls = forward_calls(runs_of(in));
  if (calls.calls.empty()) return {};
  Indices indices;
  const std::int64_t y_stride = narrow ? args.y.row_stride : in.q.shape[1] * fused_head;
  const std::vector<Prepared> prepared =
      prepare(stream, calls.calls, false,
              {in.q.row_stride, in.k.row_stride, in.v.row_stride, y_stride, args.lse.row_stride}, indices);
  if (prepared.empty()) return {};
  const Tensor workspace = workspace_of(stream, prepared),
               narrow_y = narrow ? Tensor() : Tensor(stream, DType::bf16, args.y.shape);
  const TensorView y = narrow ? args.y : narrow_y.view();
  for (const Prepared& one : prepared) {
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {in.q.data, in.k.data, in.v.data, y.data, args.lse.data};
    one.graph->run(stream, memory);
    if (narrow) continue;
    widen<<<grid_over(*one.call, one.call->queries), threads, 0, native_of(stream)>>>(
        indices.at<PartRows>(one.parts), SomeHeads<const bf16>(y, 0), SomeHeads<float>(args.y, 0),
        static_cast<int>(one.call->heads));
    cuda_check(cudaGetLastError());
  }
  return remaining_of(stream, calls);
}

RemainingDocuments fused_attention_backward(const Stream& stream, const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  if (!fits(in) || !rows_start_aligned({args.d_y}, width) || !rows_start_aligned({args.d_q, args.d_k, args.d_v}, 4))
    return {};
  const FusedCalls calls = backward_calls(runs_of(in), most_workspace);
  if (calls.calls.empty()) return {};
  Indices indices;
  const std::vector<Prepared> prepared =
      prepare(stream, calls.calls, true,
              {in.q.row_stride, in.k.row_stride, in.v.row_stride, 0, args.lse.row_stride, args.d_y.row_stride, 0, 0, 0},
              indices);
  if (prepared.empty()) return {};
  std::int64_t query_size = 0, key_size = 0;
  for (const Prepared& one : prepared) {
    query_size = std::max(query_size, one.query_rows * one.call->heads);
    key_size = std::max(key_size, one.key_rows * one.call->heads);
  }
  const Tensor workspace = workspace_of(stream, prepared);
  const auto temporary = [&](std::int64_t size) { return Tensor(stream, DType::bf16, {size * fused_head}); };
  const Tensor all_y = temporary(query_size), all_d_q = temporary(query_size), all_d_k = temporary(key_size),
               all_d_v = temporary(key_size);
  for (const Prepared& one : prepared) {
    const FusedCall& call = *one.call;
    const int heads = static_cast<int>(call.heads);
    const auto rows_of = [&](const Tensor& x, std::int64_t rows) {
      return view_of(x.view().data, DType::bf16, {rows, call.heads, fused_head});
    };
    const TensorView y = rows_of(all_y, one.query_rows), d_q = rows_of(all_d_q, one.query_rows),
                     d_k = rows_of(all_d_k, one.key_rows), d_v = rows_of(all_d_v, one.key_rows);
    const auto* const parts = indices.at<PartRows>(one.parts);
    make_y<<<grid_over(call, call.queries), threads, 0, native_of(stream)>>>(
        parts, SomeHeads<const bf16>(args.d_y, call.head), SomeHeads<const float>(args.delta, call.head),
        SomeHeads<bf16>(y, 0), heads);
    cuda_check(cudaGetLastError());
    FusedMemory memory = memory_of(one, indices, workspace);
    memory.data = {address_of(in.q, call.head),
                   address_of(in.k, call.head),
                   address_of(in.v, call.head),
                   y.data,
                   static_cast<float*>(args.lse.data) + call.head,
                   address_of(args.d_y, call.head),
                   d_q.data,
                   d_k.data,
                   d_v.data};
    one.graph->run(stream, memory);
    const AddedGradients gradients{.from = {{d_q, 0}, {d_k, 0}, {d_v, 0}},
                                   .to = {{args.d_q, call.head}, {args.d_k, call.head}, {args.d_v, call.head}}};
    add<<<grid_over(call, std::max(call.queries, call.keys), 3), threads, 0, native_of(stream)>>>(parts, gradients,
                                                                                                  heads);
    cuda_check(cudaGetLastError());
  }
  return remaining_of(stream, calls);
}

}  // namespace causeway::cuda
