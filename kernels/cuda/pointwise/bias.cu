#include "kernels/bias.hpp"

#include <algorithm>

#include "kernels/cuda/device/sums.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

constexpr std::int64_t most_chunks = 1024;  // of tokens, in the backward; each has a row of partial sums

/// y = bias.
template <class T>
struct BiasBody {
  using R = Accumulator<T>;
  static constexpr int width = packet_width<T, R>;
  Rows<const R> bias;
  Rows<T> y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto from = bias.template load<V>(0, column);
    Packet<T, V> to;
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(from.at[v]);
    y.template store<V>(row, column, to);
  }
};

/// partial[chunk] = Σ d_y over the tokens chunk, chunk + chunks, chunk + 2·chunks, …
template <class T>
struct ChunkSumsBody {
  static constexpr int width = packet_width<T>;
  Rows<const T> d_y;
  double* partial;  ///< [chunks, D]
  std::int64_t tokens, channels, chunks;

  template <int V>
  __device__ void operator()(std::int64_t chunk, std::int64_t column) const {
    double sums[V] = {};
    for (std::int64_t t = chunk; t < tokens; t += chunks) {
      const auto from = d_y.template load<V>(t, column);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += static_cast<double>(widened(from.at[v]));
    }
#pragma unroll
    for (int v = 0; v < V; ++v) partial[chunk * channels + column + v] = sums[v];
  }
};

template <class R>
struct AddToBias {
  R* d_bias;
  __device__ void add(int, std::int64_t column, double sum) const { d_bias[column] += static_cast<R>(sum); }
};

}  // namespace

// Lower bound: y is written.
void bias_forward(const Stream& stream, const BiasForward& args) {
  const TensorView y = args.y, bias = args.bias.reshaped({1, args.bias.size()});
  expect("bias", args.bias, accumulator_of(y.dtype), {y.columns()});
  dispatch(y.dtype, [&]<class T>() {
    using Body = BiasBody<T>;
    for_each_packet(stream, y.rows(), y.columns(), rows_start_aligned({bias, y}, Body::width),
                    Body{Rows<const typename Body::R>(bias), Rows<T>(y)});
  });
}

// Lower bound: d_y is read.
void bias_backward(const Stream& stream, const BiasBackward& args) {
  const TensorView d_y = args.d_y;
  expect("d_bias", args.d_bias, accumulator_of(d_y.dtype), {d_y.columns()});
  if (d_y.size() == 0) return;
  const std::int64_t chunks = std::min(most_chunks, d_y.rows());
  const Tensor partial(stream, DType::f64, {chunks, d_y.columns()});
  auto* const sums = static_cast<double*>(partial.view().data);
  dispatch(d_y.dtype, [&]<class T>() {
    using R = Accumulator<T>;
    using Body = ChunkSumsBody<T>;
    for_each_packet(stream, chunks, d_y.columns(), rows_start_aligned({d_y}, Body::width),
                    Body{Rows<const T>(d_y), sums, d_y.rows(), d_y.columns(), chunks});
    add_parts_by_warps(stream, static_cast<const double*>(sums), chunks, 1, d_y.columns(),
                       AddToBias<R>{static_cast<R*>(args.d_bias.data)});
  });
}

}  // namespace causeway::cuda
