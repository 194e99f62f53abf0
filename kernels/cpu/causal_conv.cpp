#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>

#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/expect_causal_conv.hpp"

namespace causeway::cpu {
namespace {

/// The backward divides the tokens into at most this many parts, each with its own sums of parameter gradients. The
/// number is fixed, so that sums do not depend on the number of threads.
constexpr std::int64_t max_parts = 32;

/// Tokens that a thread takes at a time. The parameter gradients of so many tokens are summed in the accumulator type,
/// then added to sums in float64.
constexpr std::int64_t token_block = 64;

/// The inputs of both directions. Lanes are channels: a tile is one vector of channels.
template <class T>
struct Inputs {
  using R = Accumulator<T>;
  TensorView x, halo, weight, bias;
  SegmentsView segments;
  Activation activation;
  std::int64_t tokens = segments.tokens, channels = weight.rows(), taps = weight.columns();
  std::int64_t tiles = ceil_div(channels, lanes<R>);

  std::int64_t width(std::int64_t tile) const { return std::min(lanes<R>, channels - tile * lanes<R>); }
};

/// weight and bias as [tile][W + 1] vectors: the lags from 0 on, then the bias; zeros beyond the last channel.
template <class T, class R = Accumulator<T>>
Tensor arrange_weights(const Stream& stream, const Inputs<T>& in) {
  Tensor arranged = Tensor::zeros(stream, dtype_of<R>, {in.tiles, in.taps + 1, lanes<R>});
  for (std::int64_t c = 0; c < in.channels; ++c) {
    R* to = arranged.view().template row<R>(c / lanes<R>) + c % lanes<R>;
    for (std::int64_t j = 0; j < in.taps; ++j, to += lanes<R>)
      *to = static_cast<R>(in.weight.template row<const T>(c)[in.taps - 1 - j]);
    if (in.bias.present()) *to = static_cast<R>(in.bias.template row<const T>(c)[0]);
  }
  return arranged;
}

/// Finds the document of each token, for tokens in rising order.
class DocumentCursor {
 public:
  explicit DocumentCursor(const SegmentsView& segments) : at_(segments.cu_seqlens), last_(at_ + segments.count - 1) {}
  /// Moves to token t. For a token before the first document (in the halo), it stays at the first document, and t is
  /// below start().
  void advance_to(std::int64_t t) {
    if (at_ != last_ && at_[1] <= t) at_ = std::upper_bound(at_ + 1, last_ + 1, t) - 1;
  }
  std::int64_t start() const { return at_[0]; }
  std::int64_t end() const { return at_[1]; }

 private:
  const std::int64_t *at_, *last_;
};

/// Calls body(j, x[t-j] of a tile) for j < reach. Rows before the run are read from the halo.
template <class T, class Body, class R = Accumulator<T>>
[[gnu::always_inline]] inline void for_each_tap(const Inputs<T>& in, std::int64_t t, std::int64_t reach,
                                                std::int64_t tile, const Body& body) {
  const std::int64_t first = tile * lanes<R>, width = in.width(tile), in_run = std::min(reach, t + 1);
  const T* x = in.x.template row<const T>(t) + first;
  for (std::int64_t j = 0; j < in_run; ++j, x -= in.x.row_stride) body(j, load_lanes<R>(x, width));
  for (std::int64_t j = in_run; j < reach; ++j)
    body(j, load_lanes<R>(in.halo.template row<const T>(in.taps - 1 + t - j) + first, width));
}

/// bias + Σ_{j<reach} weight_j · x[t-j] of a tile, whose arranged weights are `weights`.
template <class T, class R = Accumulator<T>>
[[gnu::always_inline]] inline Vector<R> pre_activation(const Inputs<T>& in, std::int64_t t, std::int64_t reach,
                                                       std::int64_t tile, const Vector<R>* weights) {
  Vector<R> sum = weights[in.taps];
  for_each_tap(in, t, reach, tile, [&](std::int64_t j, const Vector<R>& x) { sum += weights[j] * x; });
  return sum;
}

// Lower bound: x read once, y written once; 2W flops and one exp an element take less time than that.
template <class T>
void forward(const Stream& stream, const CausalConvForward& args) {
  using R = Accumulator<T>;
  const Inputs<T> in{args.x, args.halo, args.weight, args.bias, args.segments, args.activation};
  const Tensor arranged = arrange_weights(stream, in);
  const auto* const weights = static_cast<const Vector<R>*>(arranged.view().data);

#pragma omp parallel for schedule(static) if (in.tokens * in.channels > min_parallel_work)
  for (std::int64_t begin = 0; begin < in.tokens; begin += token_block) {
    DocumentCursor document(in.segments);
    for (std::int64_t t = begin; t < std::min(begin + token_block, in.tokens); ++t) {
      document.advance_to(t);
      const std::int64_t reach = std::min(in.taps, t - document.start() + 1);
      T* const y = args.y.template row<T>(t);
      for (std::int64_t c = 0; c < in.tiles; ++c) {
        Vector<R> sum = pre_activation(in, t, reach, c, weights + c * (in.taps + 1));
        if (in.activation == Activation::silu) sum = lanewise<R>(sum, silu<R>);
        store_lanes<R>(sum, y + c * lanes<R>, in.width(c));
      }
    }
  }
}

/// The backward of a part [begin, end) of the tokens, token by token. A ring buffer holds g of the last W tokens: once
/// g[t] is known, d_x[t - W + 1] can be computed. g of the W - 1 tokens after the part is computed twice: here, and in
/// the part that they belong to.
template <class T>
class BackwardPart {
 public:
  using R = Accumulator<T>;

  /// weights: as arranged. ring: [W][tiles] vectors. d_weights: [tiles][W + 1] vectors, zero. sums: the same in
  /// float64, zero.
  BackwardPart(const Inputs<T>& in, const CausalConvBackward& args, const Vector<R>* weights, Vector<R>* ring,
               Vector<R>* d_weights, double* sums)
      : in_(in), args_(args), weights_(weights), ring_(ring), d_weights_(d_weights), sums_(sums) {}

  void run(std::int64_t begin, std::int64_t end) {
    DocumentCursor of_g(in_.segments), of_d_x(in_.segments);
    const std::int64_t reach = in_.taps - 1, first = std::max<std::int64_t>(begin, 0);
    for (std::int64_t t = first; t < end + reach; ++t) {
      if (t < in_.tokens) {
        of_g.advance_to(t);
        compute_g(t, std::min(in_.taps, t - of_g.start() + 1), t < end);
        if (t < end && (t + 1 - first) % token_block == 0) flush();
      }
      if (t - reach < begin) continue;
      of_d_x.advance_to(t - reach);
      write_d_x(t - reach, first, of_d_x);
    }
    flush();
  }

 private:
  Vector<R>* ring(std::int64_t t) const { return ring_ + t % in_.taps * in_.tiles; }

  /// Writes g[t] = d_y ⊙ act'(pre-activation) to the ring. Adds the token's contribution to the parameters' gradients
  /// if the token belongs to this part (`in_part`).
  void compute_g(std::int64_t t, std::int64_t reach, bool in_part) {
    const T* const d_y = args_.d_y.template row<const T>(t);
    for (std::int64_t c = 0; c < in_.tiles; ++c) {
      const std::int64_t at = c * (in_.taps + 1);
      Vector<R> g = load_lanes<R>(d_y + c * lanes<R>, in_.width(c));
      if (in_.activation == Activation::silu)
        g *= lanewise<R>(pre_activation(in_, t, reach, c, weights_ + at), silu_derivative<R>);
      ring(t)[c] = g;
      if (!in_part) continue;
      for_each_tap(in_, t, reach, c, [&](std::int64_t j, const Vector<R>& x) { d_weights_[at + j] += g * x; });
      d_weights_[at + in_.taps] += g;
    }
  }

  /// Writes d_x[t], or d_halo if t < 0, from g[t … t+W-1] within the document and the run. `first` is the first token
  /// whose g is in the ring.
  void write_d_x(std::int64_t t, std::int64_t first, const DocumentCursor& document) {
    T* const to = t >= 0 ? args_.d_x.template row<T>(t) : args_.d_halo.template row<T>(in_.taps - 1 + t);
    const std::int64_t stop = document.start() <= t ? std::min({t + in_.taps, document.end(), in_.tokens}) : t;
    for (std::int64_t c = 0; c < in_.tiles; ++c) {
      Vector<R> sum{};
      for (std::int64_t later = std::max(t, first); later < stop; ++later)
        sum += weights_[c * (in_.taps + 1) + later - t] * ring(later)[c];
      store_lanes<R>(sum, to + c * lanes<R>, in_.width(c));
    }
  }

  /// Moves the parameter gradients summed so far to the sums in float64.
  void flush() {
    for (std::int64_t i = 0; i < in_.tiles * (in_.taps + 1); ++i) {
      for (std::int64_t d = 0; d < lanes<R>; ++d) sums_[i * lanes<R> + d] += static_cast<double>(d_weights_[i][d]);
      d_weights_[i] = Vector<R>{};
    }
  }

  const Inputs<T>& in_;
  const CausalConvBackward& args_;
  const Vector<R>* weights_;
  Vector<R>*ring_, *d_weights_;
  double* sums_;
};

// Lower bound: x and d_y read once, d_x written once; 6W flops and one exp an element take less time than that.
template <class T>
void backward(const Stream& stream, const CausalConvBackward& args) {
  using R = Accumulator<T>;
  const Inputs<T> in{args.x, args.halo, args.weight, args.bias, args.segments, args.activation};
  if (in.tokens == 0) {
    for (std::int64_t t = 0; t < in.taps - 1 && args.d_halo.present(); ++t)
      std::fill_n(args.d_halo.row<T>(t), in.channels, T{});
    return;
  }
  const Tensor arranged = arrange_weights(stream, in);
  const auto* const weights = static_cast<const Vector<R>*>(arranged.view().data);
  const std::int64_t blocks = ceil_div(in.tokens, token_block), parts = std::min(blocks, max_parts);
  const std::int64_t size = in.tiles * (in.taps + 1);
  const Tensor vectors = Tensor::zeros(stream, dtype_of<R>, {parts, in.taps * in.tiles + size, lanes<R>});
  const Tensor sums = Tensor::zeros(stream, DType::f64, {parts, size, lanes<R>});

#pragma omp parallel for schedule(static) if (in.tokens * in.channels > min_parallel_work)
  for (std::int64_t part = 0; part < parts; ++part) {
    auto* const ring = reinterpret_cast<Vector<R>*>(vectors.view().template row<R>(part));
    const std::int64_t begin = part * blocks / parts * token_block,
                       end = std::min((part + 1) * blocks / parts * token_block, in.tokens);
    BackwardPart<T>(in, args, weights, ring, ring + in.taps * in.tiles, sums.view().template row<double>(part))
        .run(part == 0 && args.d_halo.present() ? 1 - in.taps : begin, end);
  }
  for (std::int64_t c = 0; c < in.channels; ++c)
    for (std::int64_t j = 0; j <= in.taps; ++j) {
      const std::int64_t at = (c / lanes<R> * (in.taps + 1) + j) * lanes<R> + c % lanes<R>;
      const double sum = sum_of_parts(sums.view().template row<const double>(0) + at, parts, sums.view().row_stride);
      if (j < in.taps)
        args.d_weight.template row<R>(c)[in.taps - 1 - j] += static_cast<R>(sum);
      else if (args.d_bias.present())
        args.d_bias.template row<R>(c)[0] += static_cast<R>(sum);
    }
}

}  // namespace

void causal_conv_forward(const Stream& stream, const CausalConvForward& args) {
  expect_causal_conv(args);
  dispatch(args.x.dtype, [&]<class Type> { forward<Type>(stream, args); });
}

void causal_conv_backward(const Stream& stream, const CausalConvBackward& args) {
  expect_causal_conv(args);
  dispatch(args.x.dtype, [&]<class Type> { backward<Type>(stream, with_product_added_to_d_y(stream, args)); });
}

}  // namespace causeway::cpu
