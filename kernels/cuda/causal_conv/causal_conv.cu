#include "kernels/causal_conv.hpp"

#include "kernels/cuda/causal_conv/causal_conv_long.cuh"
#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/expect.hpp"

namespace causeway::cuda {
namespace {

/// The reach of token begin + k: the number of taps whose token is in the same document. It can be computed for each k
/// independently, so that rows do not wait for each other.
__device__ int reach_of(const DocumentStarts& starts, int k, int taps) {
  const std::int64_t before = starts.begin + k - starts.start_of(k);
  return before >= taps ? taps : static_cast<int>(before) + 1;
}

/// block: 4 consecutive strips of 64 tokens by 32 packets of V channels
/// warp: one strip by 32 packets
/// thread: one packet of V channels, token after token
/// registers: the weights and the last Taps rows of x (Window), 4 rows in flight
template <class T, int V, int Taps>
__global__ void __launch_bounds__(32 * strips_per_block)
    forward_strips(CausalConvInputs<T> in, T* y, std::int64_t y_stride) {
  const StripCoordinates<V> at(in.channels);
  const std::int64_t tokens = in.segments.tokens, begin = at.strip * forward_strip, channel = at.channel;
  if (begin >= tokens) return;
  const DocumentStarts starts(in.segments, begin, static_cast<int>(threadIdx.x));
  if (channel >= in.channels) return;
  // 1. The weights, and the rows before the strip.
  Window<T, V, Taps> window(in, channel);
  window.fill(in, begin, starts.start_of(0), channel);
  const int count = static_cast<int>(tokens - begin < forward_strip ? tokens - begin : forward_strip);
  // 2. The tokens of the strip.
  for (int first = 0; first < count; first += prefetch_rows) {
    Packet<T, V> rows[prefetch_rows];
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i)
      rows[i] = Packet<T, V>::load(in.x + (begin + min(first + i, count - 1)) * in.x_stride + channel);
#pragma unroll
    for (int i = 0; i < prefetch_rows; ++i) {
      const int k = first + i;
      if (k >= count) break;
      window.push(rows[i]);
      Accumulator<T> sum[V];
      window.pre_activation(reach_of(starts, k, in.taps), sum);
      if (in.silu)
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] = silu(sum[v]);
      Packet<T, V>::of(sum).store(y + (begin + k) * y_stride + channel);
    }
  }
}

template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  const CausalConvInputs<T> in(args);
  if (in.segments.tokens == 0 || in.channels == 0) return;
  with_packets_and_taps<T, 8>(in.taps, {args.x, args.halo, args.y}, [&]<int V, int Taps> {
    const unsigned grid = StripCoordinates<V>::grid(in.segments.tokens, forward_strip, in.channels);
    forward_strips<T, V, Taps><<<grid, dim3(packets_per_block, strips_per_block), 0, native_of(stream)>>>(
        in, static_cast<T*>(args.y.data), args.y.row_stride);
    cuda_check(cudaGetLastError());
  });
}

template <class Args>
void expect_inputs(const Args& args) {
  const DType dtype = args.x.dtype;
  const std::int64_t T = args.segments.tokens, D = args.weight.rows(), W = args.weight.columns();
  expect("x", args.x, dtype, {T, D});
  ensure(args.activation != Activation::gelu, "causal_conv's activation is {}, expected none or silu",
         name_of(args.activation));
  expect("weight", args.weight, dtype, {D, W});
  expect_if_present("bias", args.bias, dtype, {D});
  expect_if_present("halo", args.halo, dtype, {W - 1, D});
  ensure(args.halo.present() || W == 1 || !args.segments.continues_from_left(),
         "a document begins before the run: expected a halo, but it is absent");
}

}  // namespace

void causal_conv_forward(const Stream& stream, const CausalConvForward& args) {
  expect_inputs(args);
  expect("y", args.y, args.x.dtype, args.x.shape);
  if (args.weight.columns() > max_register_taps) return causal_conv_long_forward(stream, args);
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_backward(const Stream& stream, const CausalConvBackward& args) {
  expect_inputs(args);
  const DType dtype = args.x.dtype, accumulator = accumulator_of(dtype);
  expect("d_y", args.d_y, dtype, args.x.shape);
  expect("d_x", args.d_x, dtype, args.x.shape);
  expect_if_present("d_halo", args.d_halo, dtype, {args.weight.columns() - 1, args.weight.rows()});
  expect("d_weight", args.d_weight, accumulator, args.weight.shape);
  expect_if_present("d_bias", args.d_bias, accumulator, {args.weight.rows()});
  if (args.weight.columns() > max_register_taps) return causal_conv_long_backward(stream, args);
  causal_conv_strips_backward(stream, args);
}

}  // namespace causeway::cuda
