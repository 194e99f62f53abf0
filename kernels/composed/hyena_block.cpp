/// hyena_block by the kernels of its three parts, on either device: the specification, and what a fused kernel is
/// tested against. It keeps no more than one or two tensors [tokens, 3D] at a time.

#include "kernels/hyena_block.hpp"

#include <algorithm>
#include <array>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/composed/expect_hyena_block.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/modal_conv.hpp"

namespace causeway::composed {
namespace {

/// q, k and v, or what takes their places: features, gradients.
struct Parts {
  std::array<TensorView, 3> of;

  /// The columns of a matrix [rows, 3D], or absent views.
  static Parts columns_of(TensorView matrix) {
    if (!matrix.present()) return {};
    const std::int64_t D = matrix.columns() / 3;
    return {{matrix.slice_columns(0, D), matrix.slice_columns(D, D), matrix.slice_columns(2 * D, D)}};
  }
  Parts rows(std::int64_t begin, std::int64_t count) const {
    if (!of[0].present()) return {};
    return {{of[0].slice_rows(begin, count), of[1].slice_rows(begin, count), of[2].slice_rows(begin, count)}};
  }
  /// Parts [begin, end) as one matrix, if they lie side by side in the rows of a wider one; otherwise absent.
  TensorView joined(std::size_t begin, std::size_t end) const {
    TensorView all = of[begin];
    const std::int64_t D = all.columns(), width = static_cast<std::int64_t>(end - begin) * D;
    if (all.row_stride < width) return {};
    for (std::size_t i = begin + 1; i < end; ++i) {
      const void* const next = static_cast<std::byte*>(of[i - 1].data) + D * size_of(all.dtype);
      if (of[i].data != next || of[i].row_stride != all.row_stride) return {};
    }
    all.shape = {all.rows(), width};
    return all;
  }
};

/// Which of the three parts are computed.
struct Which {
  std::size_t begin, end;
};
constexpr Which q_only{0, 1}, k_and_v{1, 3}, all_three{0, 3};

/// Calls run(parts, views) once if each of `operands` has these parts side by side, otherwise for each part. views[i]
/// is the i-th operand's; absent operands stay absent.
template <std::size_t count, class Run>
void for_parts(Which which, const std::array<Parts, count>& operands, const Run& run) {
  std::array<TensorView, count> views;
  const auto whole = [&](std::size_t i) {
    const bool present = operands[i].of[which.begin].present();
    views[i] = present ? operands[i].joined(which.begin, which.end) : TensorView();
    return !present || views[i].present();
  };
  bool side_by_side = true;
  for (std::size_t i = 0; i < count; ++i) side_by_side = side_by_side && whole(i);
  if (side_by_side) return run(which, views);
  for (std::size_t part = which.begin; part < which.end; ++part) {
    for (std::size_t i = 0; i < count; ++i) views[i] = operands[i].of[part];
    run(Which{part, part + 1}, views);
  }
}

/// The featurizer's rows of some parts, or its gradient's.
TensorView taps_of(TensorView featurizer, Which parts) {
  const std::int64_t D = featurizer.rows() / 3;
  return featurizer.slice_rows(static_cast<std::int64_t>(parts.begin) * D,
                               static_cast<std::int64_t>(parts.end - parts.begin) * D);
}

/// Writes the features of rows x, before which the rows `halo` lie.
void featurize(const Stream& stream, const HyenaBlockInputs& in, Which which, const Parts& x, const Parts& halo,
               const SegmentsView& segments, const Parts& features) {
  for_parts<3>(which, {x, halo, features}, [&](Which parts, const std::array<TensorView, 3>& views) {
    causal_conv_forward(stream, {.x = views[0],
                                 .halo = views[1],
                                 .weight = taps_of(in.featurizer, parts),
                                 .bias = {},
                                 .segments = segments,
                                 .y = views[2]});
  });
}

/// The adjoint: d_x and d_halo are written, the featurizer's gradient is added to.
void featurize_adjoint(const Stream& stream, const HyenaBlockBackward& args, Which which, const Parts& x,
                       const Parts& halo, const SegmentsView& segments, const Parts& d_features, const Parts& d_x,
                       const Parts& d_halo) {
  for_parts<5>(which, {x, halo, d_features, d_x, d_halo}, [&](Which parts, const std::array<TensorView, 5>& views) {
    causal_conv_backward(stream, {.x = views[0],
                                  .halo = views[1],
                                  .weight = taps_of(args.in.featurizer, parts),
                                  .bias = {},
                                  .segments = segments,
                                  .d_y = views[2],
                                  .d_y_product = {},
                                  .d_x = views[3],
                                  .d_halo = views[4],
                                  .d_weight = taps_of(args.d_featurizer, parts),
                                  .d_bias = {}});
  });
}

std::int64_t featurizer_reach(const HyenaBlockInputs& in) { return in.featurizer.columns() - 1; }

/// The last rows of a halo or its gradient: those that the featurizer reads before the run. Absent if there are none.
Parts nearest_rows(const HyenaBlockInputs& in, TensorView halo) {
  const std::int64_t count = featurizer_reach(in);
  return halo.present() && count > 0 ? Parts::columns_of(halo).rows(halo.rows() - count, count) : Parts();
}

Parts inputs_of(const HyenaBlockInputs& in) { return {{in.q, in.k, in.v}}; }

void featurize_run(const Stream& stream, const HyenaBlockInputs& in, Which which, const Parts& features) {
  featurize(stream, in, which, inputs_of(in), nearest_rows(in, in.halo), in.segments, features);
}

/// The inputs of the gated convolution.
GatedConvInputs gated(const HyenaBlockInputs& in, const Parts& features) {
  return {.q = features.of[0], .k = features.of[1], .v = features.of[2], .skip = in.skip, .segments = in.segments};
}

/// The rows before the run that filters with taps read: as many as the run's first document reaches back, at most
/// taps-1. Their features are computed from the halo.
class FilterHalo {
 public:
  FilterHalo(const Stream& stream, const HyenaBlockInputs& in) {
    const std::int64_t reach = in.taps.columns() - 1, D = in.q.columns();
    if (reach == 0 || !in.segments.continues_from_left()) return;
    const std::int64_t* const documents = in.segments.host;
    rows_ = std::min(reach, -documents[0]);
    first_ = in.halo.rows() - rows_;
    const std::int64_t earlier = featurizer_reach(in);
    documents_ = DeviceSegments(stream, {documents[0] + rows_, documents[1] + rows_}, rows_);
    x_ = Parts::columns_of(in.halo).rows(first_, rows_);
    if (earlier > 0) before_ = Parts::columns_of(in.halo).rows(first_ - earlier, earlier);
    features_ = Tensor(stream, in.q.dtype, {rows_, 3 * D});
    featurize(stream, in, k_and_v, x_, before_, documents_.view(), features());
    products_ = Tensor(stream, in.q.dtype, {reach, D});
    multiply(stream, {.a = features().of[1], .b = features().of[2], .y = reached(products_)});
  }

  TensorView products() const { return products_; }  ///< [taps-1, D], the kernels' halo; or absent

  /// Adds to the halo's gradient, from that of the products.
  void add_gradient(const Stream& stream, const HyenaBlockBackward& args, TensorView d_products) const {
    if (rows_ == 0 || !args.d_halo.present()) return;
    const DType dtype = args.in.q.dtype;
    const Tensor d_features(stream, dtype, features_.view().shape), d_x(stream, dtype, features_.view().shape);
    const Parts d = Parts::columns_of(d_features), to = Parts::columns_of(args.d_halo);
    const std::int64_t earlier = featurizer_reach(args.in);
    const Tensor d_before = earlier > 0 ? Tensor(stream, dtype, {earlier, features_.view().columns()}) : Tensor();
    multiply(stream, {.a = reached(d_products), .b = features().of[2], .y = d.of[1]});
    multiply(stream, {.a = reached(d_products), .b = features().of[1], .y = d.of[2]});
    featurize_adjoint(stream, args, k_and_v, x_, before_, documents_.view(), d, Parts::columns_of(d_x),
                      Parts::columns_of(d_before));
    for (const std::size_t part : {1, 2}) {
      scale(stream, {.x = Parts::columns_of(d_x).of[part], .accumulate = true, .y = to.rows(first_, rows_).of[part]});
      if (earlier > 0)
        scale(stream, {.x = Parts::columns_of(d_before).of[part],
                       .accumulate = true,
                       .y = to.rows(first_ - earlier, earlier).of[part]});
    }
  }

 private:
  Parts features() const { return Parts::columns_of(features_); }
  TensorView reached(TensorView products) const { return products.slice_rows(products.rows() - rows_, rows_); }

  std::int64_t rows_ = 0, first_ = 0;  // of the halo
  DeviceSegments documents_;
  Parts x_, before_;
  Tensor features_, products_;  // of features_ only k's and v's columns
};

void featurizer_adjoint(const Stream& stream, const HyenaBlockBackward& args, TensorView d_features) {
  const HyenaBlockInputs& in = args.in;
  if (args.d_halo.present()) fill(stream, {.value = 0, .y = args.d_halo});
  featurize_adjoint(stream, args, all_three, inputs_of(in), nearest_rows(in, in.halo), in.segments,
                    Parts::columns_of(d_features), {{args.d_q, args.d_k, args.d_v}}, nearest_rows(in, args.d_halo));
}

}  // namespace

void hyena_block_forward(const Stream& stream, const HyenaBlockForward& args) {
  expect_hyena_block(args);
  const HyenaBlockInputs& in = args.in;
  const Tensor memory(stream, in.q.dtype, {in.q.rows(), 3 * in.q.columns()});
  const Parts features = Parts::columns_of(memory);
  featurize_run(stream, in, all_three, features);
  if (in.modal())
    return modal_conv_forward(stream, {.in = gated(in, features),
                                       .residues = in.residues,
                                       .log_rates = in.log_rates,
                                       .state_in = args.state_in,
                                       .y = args.y,
                                       .states = {},
                                       .state_out = args.state_out});
  const FilterHalo before(stream, in);
  blocked_conv_forward(stream, {.in = gated(in, features), .halo = before.products(), .taps = in.taps, .y = args.y});
}

void hyena_block_backward(const Stream& stream, const HyenaBlockBackward& args) {
  expect_hyena_block(args);
  const HyenaBlockInputs& in = args.in;
  const DType dtype = in.q.dtype;
  // The features lie in the memory of the results until the last step, which reads only their gradients.
  const Parts features{{args.d_q, args.d_k, args.d_v}};
  const Tensor memory(stream, dtype, {in.q.rows(), 3 * in.q.columns()});
  const Parts d_features = Parts::columns_of(memory);
  featurize_run(stream, in, all_three, features);
  const GatedConvGradients gradients{.d_y = args.d_y,
                                     .d_q = d_features.of[0],
                                     .d_k = d_features.of[1],
                                     .d_v = d_features.of[2],
                                     .d_skip = args.d_skip};
  if (in.modal()) {
    modal_conv_backward(stream, {.in = gated(in, features),
                                 .residues = in.residues,
                                 .log_rates = in.log_rates,
                                 .state_in = args.state_in,
                                 .states = {},
                                 .adjoint_in = args.adjoint_in,
                                 .gradients = gradients,
                                 .d_residues = args.d_residues,
                                 .d_log_rates = args.d_log_rates,
                                 .adjoint_out = args.adjoint_out});
    return featurizer_adjoint(stream, args, memory);
  }
  const FilterHalo before(stream, in);
  const Tensor d_products = before.products().present() ? Tensor(stream, dtype, before.products().shape) : Tensor();
  blocked_conv_backward(stream, {.in = gated(in, features),
                                 .halo = before.products(),
                                 .taps = in.taps,
                                 .gradients = gradients,
                                 .d_halo = d_products,
                                 .d_taps = args.d_taps});
  featurizer_adjoint(stream, args, memory);
  before.add_gradient(stream, args, d_products);
}

void hyena_block_summary(const Stream& stream, const HyenaBlockSummary& args) {
  const HyenaBlockInputs& in = args.in;
  expect_hyena_block(in);
  const Tensor memory(stream, in.q.dtype, {in.q.rows(), 3 * in.q.columns()});
  const Parts features = Parts::columns_of(memory);
  featurize_run(stream, in, k_and_v, features);
  modal_conv_summary(stream, {.in = gated(in, features), .log_rates = in.log_rates, .state = args.state});
}

void hyena_block_adjoint_summary(const Stream& stream, const HyenaBlockAdjointSummary& args) {
  const HyenaBlockInputs& in = args.in;
  expect_hyena_block(in);
  const Tensor memory(stream, in.q.dtype, {in.q.rows(), in.q.columns()});
  const Parts features{{memory.view(), memory.view(), memory.view()}};
  featurize_run(stream, in, q_only, features);
  modal_conv_adjoint_summary(stream, {.in = gated(in, features),
                                      .residues = in.residues,
                                      .log_rates = in.log_rates,
                                      .d_y = args.d_y,
                                      .adjoint = args.adjoint});
}

}  // namespace causeway::composed
