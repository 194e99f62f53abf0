#include "kernels/core/integer.hpp"
#include "kernels/embedding.hpp"

#include <bit>
#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

constexpr std::int64_t chunk = 256;  // sorted tokens that a block adds up before chunks are joined
constexpr int threads = 128, rows_in_flight = 8;

/// y[t] = weight[ids[t]].
template <class From, class To>
struct GatherBody {
  static constexpr int width = packet_width<From, To>;
  Rows<const std::int32_t> ids;
  Rows<const From> weight;
  Rows<To> y;
  std::int64_t vocabulary;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t id = ids(row, 0);
    Packet<To, V> to;
    if (id >= 0 && id < vocabulary) {
      const auto from = weight.template load<V>(id, column);
#pragma unroll
      for (int v = 0; v < V; ++v) to.at[v] = narrowed<To>(static_cast<Accumulator<To>>(from.at[v]));
    } else {  // a kernel cannot throw; NaN shows in the loss
#pragma unroll
      for (int v = 0; v < V; ++v) to.at[v] = narrowed<To>(std::numeric_limits<Accumulator<To>>::quiet_NaN());
    }
    y.template store<V>(row, column, to);
  }
};

/// The keys and values to be sorted: ids and token numbers. Each id outside the table becomes `vocabulary`, so that few
/// bits have to be sorted.
/// thread: one token
__global__ void __launch_bounds__(256) sort_keys(Rows<const std::int32_t> ids, std::int64_t tokens,
                                                 std::int64_t vocabulary, std::int32_t* keys, std::int64_t* order) {
  const std::int64_t t = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  const std::int32_t id = ids(t, 0);
  keys[t] = id >= 0 && id < vocabulary ? id : static_cast<std::int32_t>(vocabulary);
  order[t] = t;
}

/// The tokens sorted by id, those of one id in their order. The tokens of one id form a run; all are cut into chunks.
struct SortedTokens {
  const std::int32_t* __restrict__ ids;
  const std::int64_t* __restrict__ order;
  std::int64_t tokens, vocabulary;

  __device__ bool begins(std::int64_t i) const { return i == 0 || ids[i - 1] != ids[i]; }
  __device__ bool ends(std::int64_t i) const { return i + 1 == tokens || ids[i + 1] != ids[i]; }
  __device__ bool known(std::int64_t i) const { return ids[i] < vocabulary; }
};

/// Adds up the rows of d_y of each run within a chunk. The sum of a run that is inside the chunk goes to d_weight, that
/// of a run begun in an earlier chunk to `heads`, and that of a run continued in the next chunk to `tails`.
/// block: 128 packets of V columns of one chunk
/// thread: one packet, token after token
/// registers: the sum, 8 rows in flight
template <class T, int V>
__global__ void __launch_bounds__(threads)
    sum_chunks(SortedTokens sorted, Rows<const T> d_y, Rows<Accumulator<T>> d_weight, Rows<Accumulator<T>> heads,
               Rows<Accumulator<T>> tails, std::int64_t columns, std::int64_t across) {
  using R = Accumulator<T>;
  const std::int64_t block = blockIdx.x / across, column = (blockIdx.x % across * threads + threadIdx.x) * V;
  if (column >= columns) return;
  const std::int64_t begin = block * chunk, end = begin + chunk < sorted.tokens ? begin + chunk : sorted.tokens;
  bool whole = sorted.begins(begin);
  Packet<R, V> sum = {};
  for (std::int64_t first = begin; first < end; first += rows_in_flight) {
    Packet<T, V> rows[rows_in_flight];
#pragma unroll
    for (int i = 0; i < rows_in_flight; ++i)
      if (first + i < end) rows[i] = d_y.template load<V>(sorted.order[first + i], column);
#pragma unroll
    for (int i = 0; i < rows_in_flight; ++i) {
      const std::int64_t at = first + i;
      if (at >= end) continue;
      if (at > begin && sorted.begins(at)) {
        whole = true;
        sum = {};
      }
#pragma unroll
      for (int v = 0; v < V; ++v) sum.at[v] += widened(rows[i].at[v]);
      if (!sorted.ends(at) && at + 1 < end) continue;
      if (!whole) {
        heads.template store<V>(block, column, sum);
      } else if (!sorted.ends(at)) {
        tails.template store<V>(block, column, sum);
      } else if (sorted.known(at)) {
        auto to = d_weight.template load<V>(sorted.ids[at], column);
#pragma unroll
        for (int v = 0; v < V; ++v) to.at[v] += sum.at[v];
        d_weight.template store<V>(sorted.ids[at], column, to);
      }
    }
  }
}

/// Adds up the sums of a run over several chunks, in the block of the chunk in which the run begins.
/// block: 128 packets of V columns of one chunk
/// thread: one packet
/// registers: the sum, 8 sums of other chunks in flight
template <class R, int V>
__global__ void __launch_bounds__(threads) join_chunks(SortedTokens sorted, Rows<R> d_weight, Rows<const R> heads,
                                                       Rows<const R> tails, std::int64_t columns, std::int64_t across) {
  const std::int64_t block = blockIdx.x / across, column = (blockIdx.x % across * threads + threadIdx.x) * V;
  const std::int64_t end = (block + 1) * chunk;
  if (column >= columns || end >= sorted.tokens || sorted.begins(end)) return;  // no run continues in the next chunk
  const std::int32_t id = sorted.ids[end];
  if (sorted.ids[block * chunk] == id && !sorted.begins(block * chunk)) return;  // the run began in an earlier chunk
  if (!sorted.known(end)) return;
  auto sum = tails.template load<V>(block, column);
  const auto continues = [&](std::int64_t at) { return at < sorted.tokens && sorted.ids[at] == id; };
  for (std::int64_t next = end; continues(next); next += rows_in_flight * chunk) {
    Packet<R, V> more[rows_in_flight];
#pragma unroll
    for (int i = 0; i < rows_in_flight; ++i)
      if (continues(next + i * chunk)) more[i] = heads.template load<V>(next / chunk + i, column);
#pragma unroll
    for (int i = 0; i < rows_in_flight; ++i)
      if (continues(next + i * chunk)) {
#pragma unroll
        for (int v = 0; v < V; ++v) sum.at[v] += more[i].at[v];
      }
  }
  auto to = d_weight.template load<V>(id, column);
#pragma unroll
  for (int v = 0; v < V; ++v) to.at[v] += sum.at[v];
  d_weight.template store<V>(id, column, to);
}

}  // namespace

// Lower bound: y is written, the rows of weight that occur are read. f32 of a small bf16 table, [65536, 4096]: 1.07 GB,
// 0.22 ms at 4.8 TB/s.
void embedding_forward(const Stream& stream, const EmbeddingForward& args) {
  const DType narrow = args.weight.dtype, wide = accumulator_of(narrow);
  const std::int64_t tokens = args.ids.rows(), columns = args.weight.columns();
  expect("embedding's y", args.y, args.y.dtype == wide ? wide : narrow, {tokens, columns});
  expect("embedding's ids", args.ids, DType::i32, {tokens});
  const auto gather = [&]<class From, class To> {
    using Body = GatherBody<From, To>;
    for_each_packet(
        stream, tokens, columns, rows_start_aligned({args.weight, args.y}, Body::width),
        Body{Rows<const std::int32_t>(args.ids), Rows<const From>(args.weight), Rows<To>(args.y), args.weight.rows()});
  };
  dispatch(narrow, [&]<class T>() {
    if (args.y.dtype == wide)
      gather.template operator()<T, Accumulator<T>>();
    else
      gather.template operator()<T, T>();
  });
}

// Lower bound: d_y is read, the rows of d_weight that occur are read and written. bf16 [65536, 4096]: 0.54 GB, 0.11 ms
// at 4.8 TB/s. A pack of DNA has four long runs, a pack of text thousands of short ones. Chunks of the sorted tokens
// distribute the work evenly in both cases.
void embedding_backward(const Stream& stream, const EmbeddingBackward& args) {
  const std::int64_t tokens = args.ids.rows(), columns = args.d_weight.columns(), vocabulary = args.d_weight.rows();
  expect("embedding backward's d_y", args.d_y, args.d_y.dtype, {tokens, columns});
  expect("embedding backward's d_weight", args.d_weight, accumulator_of(args.d_y.dtype), args.d_weight.shape);
  expect("embedding backward's ids", args.ids, DType::i32, {tokens});
  if (tokens == 0 || columns == 0) return;
  ensure(vocabulary < std::int64_t{1} << 31, "embedding_backward: d_weight has {} rows, expected fewer than 2^31",
         vocabulary);
  const cudaStream_t native = native_of(stream);
  const Tensor ids(stream, DType::i32, {tokens}), keys(stream, DType::i32, {tokens}),
      token_numbers(stream, DType::i64, {tokens}), order(stream, DType::i64, {tokens});
  auto *const unsorted = ids.view().row<std::int32_t>(0), *const sorted_ids = keys.view().row<std::int32_t>(0);
  auto *const in_order = token_numbers.view().row<std::int64_t>(0), *const sorted_order =
                                                                        order.view().row<std::int64_t>(0);
  sort_keys<<<grid_of(tokens, 256), 256, 0, native>>>(Rows<const std::int32_t>(args.ids), tokens, vocabulary, unsorted,
                                                      in_order);
  cuda_check(cudaGetLastError());
  std::size_t scratch_bytes = 0;
  const auto sort = [&](void* scratch) {
    cuda_check(cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, unsorted, sorted_ids, in_order, sorted_order,
                                               tokens, 0, std::bit_width(static_cast<std::uint64_t>(vocabulary)),
                                               native));
  };
  sort(nullptr);  // only determines the size of the scratch memory
  const Tensor scratch(stream, DType::u8, {static_cast<std::int64_t>(scratch_bytes)});
  sort(scratch.view().data);

  dispatch(args.d_y.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    constexpr int width = packet_width<T, R>;
    const std::int64_t chunks = ceil_div(tokens, chunk);
    const Tensor heads(stream, dtype_of<R>, {chunks, columns}), tails(stream, dtype_of<R>, {chunks, columns});
    const SortedTokens sorted{sorted_ids, sorted_order, tokens, vocabulary};
    dispatch_width<width>(columns % width == 0 && rows_start_aligned({args.d_y, args.d_weight}, width), [&]<int V> {
      const std::int64_t across = ceil_div(columns / V, threads);
      sum_chunks<T, V><<<grid_of(chunks * across), threads, 0, native>>>(
          sorted, Rows<const T>(args.d_y), Rows<R>(args.d_weight), Rows<R>(heads), Rows<R>(tails), columns, across);
      cuda_check(cudaGetLastError());
      join_chunks<R, V><<<grid_of(chunks * across), threads, 0, native>>>(
          sorted, Rows<R>(args.d_weight), Rows<const R>(heads), Rows<const R>(tails), columns, across);
      cuda_check(cudaGetLastError());
    });
  });
}

}  // namespace causeway::cuda
