#include "kernels/causal_conv.hpp"

#include <algorithm>

#include "kernels/cpu/expect.hpp"
#include "kernels/cpu/vector_math.hpp"

namespace causeway::cpu {
namespace {

/// Channels and tokens handled at once: what the backward keeps of them stays in the second-level cache.
constexpr std::int64_t channel_block = 128, token_block = 64;

/// Parts that the backward cuts the tokens into to sum parameter gradients: a fixed number, so that sums do not depend on the number of threads.
constexpr std::int64_t most_parts = 32;

/// Elements below which a second thread costs more than it brings.
constexpr std::int64_t worth_threads = 1 << 14;

/// What both directions read, and which of its rows a token may see.
template <class T>
struct Inputs {
  TensorView x, halo, weight, bias;
  SegmentsView segments;
  Activation activation;
  std::int64_t tokens = segments.tokens, channels = weight.rows(), taps = weight.columns();
  std::int64_t channel_blocks = (channels + channel_block - 1) / channel_block;

  /// Row of token t, which lies in the halo where t < 0.
  const T* row(std::int64_t t) const { return t >= 0 ? x.row<const T>(t) : halo.row<const T>(taps - 1 + t); }
  std::int64_t width(std::int64_t block) const { return std::min(channel_block, channels - block * channel_block); }
};

/// weight and bias as [channel block][W + 1][channel_block]: lag 0 first, the bias last, zeros beyond the last channel.
template <class T, class R = Accumulator<T>>
Tensor arrange_weights(const Stream& stream, const Inputs<T>& in) {
  Tensor arranged = Tensor::zeros(stream, dtype_of<R>, {in.channel_blocks, in.taps + 1, channel_block});
  for (std::int64_t c = 0; c < in.channels; ++c) {
    R* to = arranged.view().template row<R>(c / channel_block) + c % channel_block;
    for (std::int64_t j = 0; j < in.taps; ++j, to += channel_block) *to = static_cast<R>(in.weight.template row<const T>(c)[in.taps - 1 - j]);
    if (in.bias.present()) *to = static_cast<R>(in.bias.template row<const T>(c)[0]);
  }
  return arranged;
}

/// The document of each token, for tokens visited in rising order.
class DocumentWalk {
 public:
  explicit DocumentWalk(const SegmentsView& segments) : at_(segments.cu_seqlens), last_(at_ + segments.count - 1) {}
  /// t may lie in the halo, before the first document too: then it is that document that does not reach it.
  void go_to(std::int64_t t) {
    if (at_ != last_ && at_[1] <= t) at_ = std::upper_bound(at_ + 1, last_ + 1, t) - 1;
  }
  std::int64_t start() const { return at_[0]; }
  std::int64_t end() const { return at_[1]; }

 private:
  const std::int64_t *at_, *last_;
};

/// bias + Σ_{j<reach} weight_j · x[t-j] of a channel block. `weights` as arranged, `sum` [channel_block].
template <class T, class R = Accumulator<T>>
void pre_activation(const Inputs<T>& in, std::int64_t t, std::int64_t reach, std::int64_t block, const R* weights, R* sum) {
  const std::int64_t width = in.width(block);
  const R* const bias = weights + in.taps * channel_block;
  for (std::int64_t d = 0; d < channel_block; ++d) sum[d] = bias[d];
  for (std::int64_t j = 0; j < reach; ++j) {
    const T* const x = in.row(t - j) + block * channel_block;
    const R* const w = weights + j * channel_block;
    for (std::int64_t d = 0; d < width; ++d) sum[d] += w[d] * static_cast<R>(x[d]);
  }
}

// Floor: x read once, y written once; 2·W flops and one exp an element hide behind that.
template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  using R = Accumulator<T>;
  const Inputs<T> in{args.x, args.halo, args.weight, args.bias, args.segments, args.activation};
  const Tensor weights = arrange_weights(stream, in);

#pragma omp parallel for schedule(static) if (in.tokens * in.channels > worth_threads)
  for (std::int64_t begin = 0; begin < in.tokens; begin += token_block) {
    DocumentWalk document(in.segments);
    for (std::int64_t t = begin; t < std::min(begin + token_block, in.tokens); ++t) {
      document.go_to(t);
      const std::int64_t reach = std::min(in.taps, t - document.start() + 1);
      for (std::int64_t c = 0; c < in.channel_blocks; ++c) {
        alignas(64) R sum[channel_block];
        pre_activation(in, t, reach, c, weights.view().template row<const R>(c), sum);
        if (in.activation == Activation::silu) {
#pragma omp simd
          for (std::int64_t d = 0; d < channel_block; ++d) sum[d] *= sigmoid(sum[d]);
        }
        T* const y = args.y.template row<T>(t) + c * channel_block;
        for (std::int64_t d = 0; d < in.width(c); ++d) y[d] = static_cast<T>(sum[d]);
      }
    }
  }
}

/// g = d_y ∘ act'(pre-activation) of one token and channel block.
template <class T, class R = Accumulator<T>>
void pre_activation_gradient(const Inputs<T>& in, TensorView d_y, std::int64_t t, std::int64_t reach, std::int64_t block, const R* weights,
                             R* g) {
  const T* const dy = d_y.row<const T>(t) + block * channel_block;
  const std::int64_t width = in.width(block);
  for (std::int64_t d = width; d < channel_block; ++d) g[d] = 0;
  if (in.activation == Activation::none) {
    for (std::int64_t d = 0; d < width; ++d) g[d] = static_cast<R>(dy[d]);
    return;
  }
  pre_activation(in, t, reach, block, weights, g);
#pragma omp simd
  for (std::int64_t d = 0; d < channel_block; ++d) {
    const R open = sigmoid(g[d]);
    g[d] = open * (1 + g[d] * (1 - open));
  }
  for (std::int64_t d = 0; d < width; ++d) g[d] *= static_cast<R>(dy[d]);
}

/// What one part of the tokens needs at a time: g of a block and of the W - 1 tokens behind it, and the block's parameter gradients.
template <class R>
struct Workspace {
  R* g;         // [token_block + 2(W-1)][channel_block]
  R* d_weight;  // [W + 1][channel_block], lag 0 first, the bias last
};

/// d_x (d_halo for t < 0) of tokens [begin, end) and one channel block, and the block's own share of the parameter gradients.
template <class T, class R = Accumulator<T>>
void backward_block(const Inputs<T>& in, const CausalConvBackward& args, std::int64_t begin, std::int64_t end, std::int64_t block,
                    const R* weights, const Workspace<R>& work) {
  const std::int64_t first = std::max<std::int64_t>(begin, 0), last = std::min(end + in.taps - 1, in.tokens), width = in.width(block);
  R* const d_bias = work.d_weight + in.taps * channel_block;
  std::fill(work.d_weight, d_bias + channel_block, R{0});
  DocumentWalk document(in.segments);
  for (std::int64_t t = first; t < last; ++t) {
    document.go_to(t);
    const std::int64_t reach = std::min(in.taps, t - document.start() + 1);
    R* const g = work.g + (t - first) * channel_block;
    pre_activation_gradient(in, args.d_y, t, reach, block, weights, g);
    if (t >= end) continue;
    for (std::int64_t j = 0; j < reach; ++j) {
      const T* const x = in.row(t - j) + block * channel_block;
      R* const dw = work.d_weight + j * channel_block;
      for (std::int64_t d = 0; d < width; ++d) dw[d] += g[d] * static_cast<R>(x[d]);
    }
    for (std::int64_t d = 0; d < channel_block; ++d) d_bias[d] += g[d];
  }
  document = DocumentWalk(in.segments);
  for (std::int64_t t = begin; t < end; ++t) {
    document.go_to(t);
    alignas(64) R sum[channel_block] = {};
    const std::int64_t stop = document.start() <= t ? std::min({t + in.taps, document.end(), in.tokens}) : 0;
    for (std::int64_t later = std::max(t, first); later < stop; ++later) {
      const R* const w = weights + (later - t) * channel_block;
      const R* const g = work.g + (later - first) * channel_block;
      for (std::int64_t d = 0; d < channel_block; ++d) sum[d] += w[d] * g[d];
    }
    T* const to = (t >= 0 ? args.d_x.row<T>(t) : args.d_halo.row<T>(in.taps - 1 + t)) + block * channel_block;
    for (std::int64_t d = 0; d < width; ++d) to[d] = static_cast<T>(sum[d]);
  }
}

// Floor: x and d_y read once, d_x written once; 6·W flops and one exp an element.
template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  const Inputs<T> in{args.x, args.halo, args.weight, args.bias, args.segments, args.activation};
  if (in.tokens == 0) {
    for (std::int64_t t = 0; t < in.taps - 1 && args.d_halo.present(); ++t) std::fill_n(args.d_halo.row<T>(t), in.channels, T{});
    return;
  }
  const Tensor weights = arrange_weights(stream, in);
  const std::int64_t blocks = (in.tokens + token_block - 1) / token_block, parts = std::min(blocks, most_parts);
  const std::int64_t gradients = in.channel_blocks * (in.taps + 1) * channel_block;
  const Tensor d_weights = Tensor::zeros(stream, DType::f64, {parts, gradients});
  const std::int64_t g_size = (token_block + 2 * (in.taps - 1)) * channel_block;
  const Tensor work(stream, dtype_of<R>, {parts, g_size + (in.taps + 1) * channel_block});

#pragma omp parallel for schedule(static) if (in.tokens * in.channels > worth_threads)
  for (std::int64_t part = 0; part < parts; ++part) {
    const Workspace<R> space{work.view().template row<R>(part), work.view().template row<R>(part) + g_size};
    for (std::int64_t b = part * blocks / parts; b < (part + 1) * blocks / parts; ++b) {
      const std::int64_t begin = b == 0 && args.d_halo.present() ? 1 - in.taps : b * token_block;
      for (std::int64_t c = 0; c < in.channel_blocks; ++c) {
        backward_block(in, args, begin, std::min((b + 1) * token_block, in.tokens), c, weights.view().template row<const R>(c), space);
        double* const to = d_weights.view().template row<double>(part) + c * (in.taps + 1) * channel_block;
        for (std::int64_t i = 0; i < (in.taps + 1) * channel_block; ++i) to[i] += static_cast<double>(space.d_weight[i]);
      }
    }
  }
  for (std::int64_t c = 0; c < in.channels; ++c)
    for (std::int64_t j = 0; j <= in.taps; ++j) {
      double sum = 0;
      const std::int64_t at = (c / channel_block * (in.taps + 1) + j) * channel_block + c % channel_block;
      for (std::int64_t part = 0; part < parts; ++part) sum += d_weights.view().template row<const double>(part)[at];
      if (j < in.taps) args.d_weight.template row<R>(c)[in.taps - 1 - j] += static_cast<R>(sum);
      else if (args.d_bias.present()) args.d_bias.template row<R>(c)[0] += static_cast<R>(sum);
    }
}

template <class Args>
void expect_inputs(const Args& args) {
  const DType dtype = args.x.dtype;
  const std::int64_t T = args.segments.tokens, D = args.weight.rows(), W = args.weight.columns();
  expect("x", args.x, dtype, {T, D});
  expect("weight", args.weight, dtype, {D, W});
  expect_if_present("bias", args.bias, dtype, {D});
  expect_if_present("halo", args.halo, dtype, {W - 1, D});
  ensure(args.halo.present() || W == 1 || !args.segments.continues_from_left(), "a document begins before the run, but halo is absent");
}

}  // namespace

void causal_conv_forward(const Stream& stream, const CausalConvForward& args) {
  expect_inputs(args);
  expect("y", args.y, args.x.dtype, args.x.shape);
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
  dispatch(dtype, [&]<class Type> { backward<Type>(stream, args); });
}

}  // namespace causeway::cpu
