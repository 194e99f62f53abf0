#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/cuda/device/sums.cuh"

namespace causeway::cuda {
namespace {

/// The tensors that the backward kernel reads and writes in addition to its inputs.
template <class T>
struct BackwardTensors {
  const T* d_y;
  T* d_x;
  std::int64_t d_y_stride, d_x_stride;
  Accumulator<T>* parts;  ///< [blocks of strips, Taps + 1, channels]: d_weight by lag, then d_bias
};

/// With g = d_y times the slope of the activation: the g of each token is added to d_x of the tokens that it reaches,
/// and d_x[t] is complete after g[t + Taps - 1]. Therefore a thread also computes g of the Taps - 1 tokens after its
/// strip, which the next strip computes again.
/// block: 4 consecutive strips by 32 packets of V channels; one part of d_weight and d_bias
/// warp: one strip by 32 packets
/// thread: one packet of V channels, token after token
/// shared memory: the queue of rows of x and d_y of each thread; one lag of d_weight for each strip
/// registers: the Window, Taps rows of d_x, the sums of d_weight and d_bias, a group of rows of x and d_y
template <class T, int V, int Taps, int Used, bool Silu>
__global__ void __launch_bounds__(threads, Taps > 4 ? 2 : 4)
    backward_strips(CausalConvInputs<T> in, int strip_tokens, BackwardTensors<T> out) {
  using R = Accumulator<T>;
  using Word = PacketWord<T, V>;
  // Neighbouring blocks have neighbouring channels: blocks that run at the same time read whole rows.
  const std::int64_t columns = columns_of<V>(in.channels), block = blockIdx.x / columns, lane = threadIdx.x,
                     own_channel = (blockIdx.x % columns * lanes + lane) * V;
  const std::int64_t begin = (block * warps + threadIdx.y) * strip_tokens, after = in.segments.tokens - begin;
  // Threads beyond the last channel write what channel 0's thread writes.
  const bool active = own_channel < in.channels;
  const std::int64_t channel = active ? own_channel : 0;
  __shared__ Word slots[queued_groups][2][group_rows][threads];
  const auto queue = &slots[0][0][0][threadIdx.y * lanes + lane];
  R sums[Taps + 1][V] = {};
  if (after > 0) {
    const int count = static_cast<int>(min(after, std::int64_t{strip_tokens}));
    const int left = static_cast<int>(min(after, std::int64_t{strip_tokens + Taps - 1}));
    // 1. The first rows of the strip, the weights, the rows before the strip, its documents.
    const T* from = in.x + begin * in.x_stride + channel;
    const T* gradient = out.d_y + begin * out.d_y_stride + channel;
    int fetched = 0;
    const auto fetch_group = [&](int slot) {
#pragma unroll
      for (int i = 0; i < group_rows; ++i, from += in.x_stride, gradient += out.d_y_stride)
        if (fetched + i < left) {
          copy_word_async(queue + (slot * 2 * group_rows + i) * threads, from);
          copy_word_async(queue + ((slot * 2 + 1) * group_rows + i) * threads, gradient);
        }
      commit_async_copies();
      fetched += group_rows;
    };
#pragma unroll
    for (int slot = 0; slot < queued_groups - 1; ++slot) fetch_group(slot);
    const FirstReads<T, V, Taps> first_reads(in, begin, channel);
    const DocumentStarts starts(in.segments, begin, static_cast<int>(lane));
    Reaches reaches(starts, in.taps);
    Window<T, V, Taps> window(first_reads, begin - starts.start_of(0), weight_scale<R, Silu>);
    // 2. The tokens of the strip and Taps - 1 more, in groups. `whole`: all of them are in the strip and reach as far
    // as the taps, and the d_x that they complete are in the strip.
    T* to = out.d_x + begin * out.d_x_stride + channel;
    R d_x[Taps][V] = {};  // of the last Taps tokens, the latest first
    Word rows[group_rows], gradients[group_rows];
    const auto compute = [&]<bool whole>(int first) {
#pragma unroll
      for (int i = 0; i < group_rows; ++i) {
        const int k = first + i;
        window.push(rows[i]);
        const auto d_y = std::bit_cast<Packet<T, V>>(gradients[i]);
        const int reach = whole ? Used : k < left ? reaches.next(in.taps) : 0;
        R g[V], sum[V];
        window.pre_activation(reach, sum);
#pragma unroll
        for (int v = 0; v < V; ++v) g[v] = scaled_gradient<Silu>(widened(d_y.at[v]), sum[v]);
#pragma unroll
        for (int j = Taps - 1; j > 0; --j)
#pragma unroll
          for (int v = 0; v < V; ++v) d_x[j][v] = d_x[j - 1][v];
#pragma unroll
        for (int v = 0; v < V; ++v) d_x[0][v] = 0;
#pragma unroll
        for (int j = 0; j < Taps; ++j)
          if (j < reach)
#pragma unroll
            for (int v = 0; v < V; ++v) d_x[j][v] += window.weight[j][v] * g[v];
        if (whole || k < count) {
#pragma unroll
          for (int j = 0; j < Taps; ++j)
            if (j < reach)
#pragma unroll
              for (int v = 0; v < V; ++v) sums[j][v] += g[v] * window.x[j][v];
#pragma unroll
          for (int v = 0; v < V; ++v) sums[Taps][v] += g[v];
        }
        const int complete = k - (Taps - 1);
        if (whole || (complete >= 0 && complete < count)) {
          *reinterpret_cast<Word*>(to) = std::bit_cast<Word>(Packet<T, V>::of(d_x[Taps - 1]));
          to += out.d_x_stride;
        }
      }
    };
    const int last_whole = Taps == 4 && in.taps == Used ? count - group_rows : -1;  // the first token of a group
    for (int first = 0, slot = 0, free = queued_groups - 1; first < count + Taps - 1; first += group_rows) {
      if (first > 0 && first % 64 == 0) reaches.continue_at(in.segments, begin + first);
      wait_for_async_copies<queued_groups - 2>();
#pragma unroll
      for (int i = 0; i < group_rows; ++i) {
        rows[i] = queue[(slot * 2 * group_rows + i) * threads];
        gradients[i] = queue[((slot * 2 + 1) * group_rows + i) * threads];
      }
      fetch_group(free);
      free = slot;
      slot = slot + 1 == queued_groups ? 0 : slot + 1;
      if (first > 0 && first <= last_whole && reaches.whole(group_rows, Used)) {
        reaches.skip(group_rows, Used);
        compute.template operator()<true>(first);
      } else {
        compute.template operator()<false>(first);
      }
    }
  }
  // 3. The sums of the block's strips, added in their order, one lag after the other.
  __shared__ R shared[warps][lanes][V];
  for (int j = 0; j <= Taps; ++j) {
    __syncthreads();
#pragma unroll
    for (int v = 0; v < V; ++v) {
      R value = 0;
#pragma unroll
      for (int i = 0; i <= Taps; ++i) value = i == j ? sums[i][v] : value;
      shared[threadIdx.y][lane][v] = value;
    }
    __syncthreads();
    if (threadIdx.y != 0 || !active) continue;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      R sum = 0;
      for (int s = 0; s < warps; ++s) sum += shared[s][lane][v];
      out.parts[(block * (Taps + 1) + j) * in.channels + channel + v] = weight_scale<R, Silu> * sum;
    }
  }
}

/// d_halo, from the first Taps - 1 tokens of the run. Their g is computed again.
/// thread: one channel
/// registers: the Window and the rows of d_halo
template <class T, int Taps>
__global__ void halo_gradient(CausalConvInputs<T> in, const T* d_y, std::int64_t d_y_stride, T* d_halo,
                              std::int64_t d_halo_stride) {
  using R = Accumulator<T>;
  const std::int64_t channel = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (channel >= in.channels) return;
  const bool any = in.segments.count > 0;
  const std::int64_t start = any ? in.segments.cu_seqlens[0] : 0, end = any ? in.segments.cu_seqlens[1] : 0;
  const std::int64_t stop = end < in.segments.tokens ? end : in.segments.tokens;
  Window<T, 1, Taps> window(FirstReads<T, 1, Taps>(in, 0, channel), -start, R(1));
  R sums[Taps] = {};  // row taps - 1 - i of d_halo at i
  for (int t = 0; t < in.taps - 1 && t < stop; ++t) {
    window.push(*reinterpret_cast<const PacketWord<T, 1>*>(in.x + t * in.x_stride + channel));
    const int reach = t - start >= in.taps ? in.taps : static_cast<int>(t - start) + 1;
    R sum[1], g = widened(d_y[t * d_y_stride + channel]);
    window.pre_activation(reach, sum);
    if (in.silu) g *= silu_slope(sum[0]);
#pragma unroll
    for (int i = 1; i < Taps; ++i)
#pragma unroll
      for (int j = 0; j < Taps; ++j)
        if (j == t + i && j < in.taps && -i >= start) sums[i] += window.weight[j][0] * g;
  }
#pragma unroll
  for (int i = 1; i < Taps; ++i)
    if (i < in.taps) d_halo[(in.taps - 1 - i) * d_halo_stride + channel] = narrowed<T>(sums[i]);
}

template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  const CausalConvInputs<T> in(args);
  if (in.channels == 0) return;
  const auto queue = native_of(stream);
  const auto* const d_y = static_cast<const T*>(args.d_y.data);
  if (args.d_halo.present() && in.taps > 1) {
    const auto halo = [&]<int Taps> {
      halo_gradient<T, Taps><<<grid_of(in.channels, 128), 128, 0, queue>>>(
          in, d_y, args.d_y.row_stride, static_cast<T*>(args.d_halo.data), args.d_halo.row_stride);
      cuda_check(cudaGetLastError());
    };
    in.taps <= 4 ? halo.template operator()<4>() : halo.template operator()<max_register_taps>();
  }
  const std::int64_t tokens = in.segments.tokens;
  if (tokens == 0) return;
  with_packets_and_taps<T, 8>(in, {args.x, args.halo, args.d_y, args.d_x}, [&]<int V, int Taps, int Used, bool Silu> {
    const std::int64_t columns = columns_of<V>(in.channels), strip = strip_tokens(tokens, columns, 2, 32),
                       blocks = ceil_div(tokens, strip * warps);
    const Tensor partial(stream, dtype_of<R>, {blocks, Taps + 1, in.channels});
    auto* const parts = static_cast<R*>(partial.view().data);
    const BackwardTensors<T> out{d_y, static_cast<T*>(args.d_x.data), args.d_y.row_stride, args.d_x.row_stride, parts};
    backward_strips<T, V, Taps, Used, Silu>
        <<<grid_of(blocks * columns), dim3(lanes, warps), 0, queue>>>(in, static_cast<int>(strip), out);
    cuda_check(cudaGetLastError());
    add_parts_by_warps(stream, parts, blocks, Taps + 1, in.channels, WeightTarget<R>(args, Taps + 1));
  });
}

}  // namespace

void causal_conv_strips_backward(const Stream& stream, const CausalConvBackward& args) {
  dispatch(args.x.dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cuda
