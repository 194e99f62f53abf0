#include "kernels/causal_conv.hpp"

#include "kernels/cuda/causal_conv/causal_conv_long.cuh"
#include "kernels/cuda/causal_conv/causal_conv_strip.cuh"
#include "kernels/expect_causal_conv.hpp"

namespace causeway::cuda {
namespace {

/// block: 4 neighbouring warps
/// warp: one strip by 32 packets of V channels; the warps of a strip follow each other
/// thread: one packet of V channels, token after token
/// shared memory: the queue of rows of each thread
/// registers: the weights and the last Taps rows of x (Window), a group of rows
template <class T, int V, int Taps, int Used, bool Silu>
__global__ void __launch_bounds__(threads, sizeof(T) > 4 ? 2 : 3)
    forward_strips(CausalConvInputs<T> in, int strip_tokens, T* y, std::int64_t y_stride) {
  using Word = PacketWord<T, V>;
  const std::int64_t warp = std::int64_t{blockIdx.x} * warps + threadIdx.y, columns = columns_of<V>(in.channels);
  const std::int64_t begin = warp / columns * strip_tokens, lane = threadIdx.x,
                     own_channel = (warp % columns * lanes + lane) * V;
  if (begin >= in.segments.tokens) return;
  // Threads beyond the last channel write what channel 0's thread writes.
  const std::int64_t channel = own_channel < in.channels ? own_channel : 0;
  const int count = static_cast<int>(min(in.segments.tokens - begin, std::int64_t{strip_tokens}));
  // 1. The first rows of the strip, the weights, the rows before the strip, its documents.
  __shared__ Word slots[queued_groups][group_rows][threads];
  const auto queue = &slots[0][0][threadIdx.y * lanes + lane];
  const T* from = in.x + begin * in.x_stride + channel;
  int fetched = 0;
  const auto fetch_group = [&](int slot) {
#pragma unroll
    for (int i = 0; i < group_rows; ++i, from += in.x_stride)
      if (fetched + i < count) copy_word_async(queue + (slot * group_rows + i) * threads, from);
    commit_async_copies();
    fetched += group_rows;
  };
#pragma unroll
  for (int slot = 0; slot < queued_groups - 1; ++slot) fetch_group(slot);
  const FirstReads<T, V, Taps> first_reads(in, begin, channel);
  const DocumentStarts starts(in.segments, begin, static_cast<int>(lane));
  Reaches reaches(starts, in.taps);
  Window<T, V, Taps> window(first_reads, begin - starts.start_of(0), weight_scale<Accumulator<T>, Silu>);
  // 2. The tokens of the strip, in groups. `whole`: all of them are in the strip and reach as far as the taps.
  T* to = y + begin * y_stride + channel;
  Word rows[group_rows];
  const auto compute = [&]<bool whole>(int first) {
#pragma unroll
    for (int i = 0; i < group_rows; ++i) {
      if (!whole && first + i >= count) return;
      window.push(rows[i]);
      Accumulator<T> sum[V];
      window.pre_activation(whole ? Used : reaches.next(in.taps), sum);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] = activated<Silu>(sum[v]);
      __stcs(reinterpret_cast<Word*>(to), std::bit_cast<Word>(Packet<T, V>::of(sum)));
      to += y_stride;
    }
  };
  const int last_whole = Taps == 4 && in.taps == Used ? count - group_rows : -1;  // the first token of a group
  for (int first = 0, slot = 0, free = queued_groups - 1; first < count; first += group_rows) {
    if (first > 0 && first % 64 == 0) reaches.continue_at(in.segments, begin + first);
    wait_for_async_copies<queued_groups - 2>();
#pragma unroll
    for (int i = 0; i < group_rows; ++i) rows[i] = queue[(slot * group_rows + i) * threads];
    fetch_group(free);
    free = slot;
    slot = slot + 1 == queued_groups ? 0 : slot + 1;
    if (first <= last_whole && reaches.whole(group_rows, Used)) {
      reaches.skip(group_rows, Used);
      compute.template operator()<true>(first);
    } else {
      compute.template operator()<false>(first);
    }
  }
}

template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  const CausalConvInputs<T> in(args);
  const std::int64_t tokens = in.segments.tokens;
  if (tokens == 0 || in.channels == 0) return;
  with_packets_and_taps<T, 16>(in, {args.x, args.halo, args.y}, [&]<int V, int Taps, int Used, bool Silu> {
    // Short strips: the rows that are in flight at the same time are near each other in memory.
    const std::int64_t columns = columns_of<V>(in.channels), strip = strip_tokens(tokens, columns, 8, 16);
    forward_strips<T, V, Taps, Used, Silu>
        <<<grid_of(ceil_div(tokens, strip) * columns, warps), dim3(lanes, warps), 0, native_of(stream)>>>(
            in, static_cast<int>(strip), static_cast<T*>(args.y.data), args.y.row_stride);
    cuda_check(cudaGetLastError());
  });
}

}  // namespace

void causal_conv_forward(const Stream& stream, const CausalConvForward& args) {
  expect_causal_conv(args);
  if (args.weight.columns() > max_register_taps) return causal_conv_long_forward(stream, args);
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_backward(const Stream& stream, const CausalConvBackward& args) {
  expect_causal_conv(args);
  if (has_product_kernel(args)) return causal_conv_product_backward(stream, args);
  const CausalConvBackward summed = with_product_added_to_d_y(stream, args);
  if (args.weight.columns() > max_register_taps) return causal_conv_long_backward(stream, summed);
  causal_conv_strips_backward(stream, summed);
}

}  // namespace causeway::cuda
