#include "kernels/cuda/hyena_block/hyena_block.cuh"

#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/composed/expect_hyena_block.hpp"
#include "kernels/cuda/device/plain_block.cuh"
#include "kernels/expect_blocked_conv.hpp"
#include "kernels/expect_modal_conv.hpp"

namespace causeway::cuda {
namespace fused_block {
namespace {

/// The columns of a part of a halo and of its reached rows.
TensorView part_of(TensorView halo, std::int64_t part, std::int64_t reached) {
  const std::int64_t D = halo.columns() / 3;
  return halo.slice_columns(part * D, D).slice_rows(halo.rows() - reached, reached);
}

bool suits_bulk_copies(const HyenaBlockInputs& in) {
  return in.q.dtype == DType::bf16 && in.featurizer.columns() <= featurizer_taps && can_be_mapped(in.q) &&
         can_be_mapped(in.k) && can_be_mapped(in.v) && (reached_rows(in) == 0 || can_be_mapped(in.halo)) &&
         compute_capability() >= 90;
}
bool suits_bulk_copies(const HyenaBlockForward& args) { return suits_bulk_copies(args.in) && can_be_mapped(args.y); }
bool suits_bulk_copies(const HyenaBlockBackward& args) {
  return suits_bulk_copies(args.in) && can_be_mapped(args.d_y) && can_be_mapped(args.d_q) && can_be_mapped(args.d_k) &&
         can_be_mapped(args.d_v);
}

bool has_tensor_core_taps(const HyenaBlockInputs& in) {
  return !in.modal() && in.taps.columns() > block_taps && in.taps.columns() <= tensor_core_taps && in.taps.rows() > 0;
}
std::int64_t channels_of_a_group(const HyenaBlockInputs& in) { return in.q.columns() / in.taps.rows(); }

/// The checks of the filter, which the composed kernels make in the calls of their own.
void expect_filter(const HyenaBlockInputs& in) {
  const GatedConvInputs gated{.q = in.q, .k = in.k, .v = in.v, .skip = in.skip, .segments = in.segments};
  if (in.modal()) return expect_modal_inputs(gated, in.residues, in.log_rates);
  expect_gated_inputs(gated);
  expect_taps(gated, in.taps);
}
void expect_filter(const HyenaBlockForward& args) {
  expect_filter(args.in);
  if (!args.in.modal()) return;
  expect_if_present("state_in", args.state_in, DType::f32, args.in.residues.shape);
  expect_if_present("state_out", args.state_out, DType::f32, args.in.residues.shape);
}

void expect_modes(const HyenaBlockBackward& args) {
  const Shape& modes = args.in.residues.shape;
  expect_if_present("state_in", args.state_in, DType::f32, modes);
  expect_if_present("adjoint_in", args.adjoint_in, DType::f32, modes);
  expect_if_present("adjoint_out", args.adjoint_out, DType::f32, modes);
  expect("d_residues", args.d_residues, DType::f32, modes);
  expect("d_log_rates", args.d_log_rates, DType::f32, modes);
}

}  // namespace

std::int64_t reached_rows(const HyenaBlockInputs& in) {
  return in.segments.continues_from_left() ? std::min(block_reach(in), -in.segments.host[0]) : 0;
}

TensorView reached_halo(const HyenaBlockInputs& in, std::int64_t part) {
  const std::int64_t rows = reached_rows(in);
  return rows > 0 && in.halo.present() ? part_of(in.halo, part, rows) : TensorView{};
}

RunMap::RunMap(TensorView of_run, TensorView halo, std::int64_t part, std::int64_t reached_rows, int box_rows,
               int box_columns, bool swizzle)
    : run(tensor_map(of_run, box_rows, box_columns, swizzle)),
      before(run),
      reached(halo.present() ? static_cast<int>(reached_rows) : 0) {
  if (reached > 0) before = tensor_map(part_of(halo, part, reached), box_rows, box_columns, swizzle);
}

HaloGradient::HaloGradient(const Stream& stream, const HyenaBlockBackward& args, int tokens) {
  const std::int64_t rows = ceil_div(reached_rows(args.in), tokens) * tokens;
  if (rows > 0 && args.d_halo.present()) rows_ = Tensor(stream, args.in.q.dtype, {rows, 3 * args.in.q.columns()});
}
RunMap HaloGradient::map(TensorView of_run, std::int64_t part, int box_rows, int box_columns, bool swizzle) const {
  const std::int64_t rows = rows_.present() ? rows_.view().rows() : 0;
  return RunMap(of_run, rows_, part, rows, box_rows, box_columns, swizzle);
}
TensorView HaloGradient::rows(std::int64_t part) const {
  return rows_.present() ? part_of(rows_, part, rows_.view().rows()) : TensorView{};
}
void HaloGradient::write(const Stream& stream, const HyenaBlockBackward& args) const {
  if (!args.d_halo.present()) return;
  fill(stream, {.value = 0, .y = args.d_halo});
  if (!rows_.present()) return;
  const std::int64_t reached = reached_rows(args.in);
  const auto nearest = [&](TensorView of) { return of.slice_rows(of.rows() - reached, reached); };
  scale(stream, {.x = nearest(rows_), .y = nearest(args.d_halo)});
}

bool suits_se(const HyenaBlockForward& args) {
  return !args.in.modal() && args.in.taps.columns() <= block_taps && suits_bulk_copies(args);
}
bool suits_se(const HyenaBlockBackward& args) {
  return !args.in.modal() && args.in.taps.columns() <= block_taps && suits_bulk_copies(args);
}
bool suits_mr(const HyenaBlockForward& args) {
  return has_tensor_core_taps(args.in) && channels_of_a_group(args.in) >= 15 && suits_bulk_copies(args);
}
bool suits_mr(const HyenaBlockBackward& args) {
  return has_tensor_core_taps(args.in) && channels_of_a_group(args.in) >= 15 && suits_bulk_copies(args) && has_sm_90a();
}

}  // namespace fused_block

bool suits_plain_block(const HyenaBlockBackward& args) { return fused_block::suits_mr(args); }
void plain_block_backward(const Stream& stream, const HyenaBlockBackward& args) {
  fused_block::mr_backward(stream, args);
}

bool hyena_block_is_fused(const HyenaBlockForward& args) {
  return fused_block::suits_se(args) || fused_block::suits_mr(args) || modal_mma::suits(args);
}
bool hyena_block_is_fused(const HyenaBlockBackward& args) {
  return fused_block::suits_se(args) || fused_block::suits_mr(args);
}

void hyena_block_forward(const Stream& stream, const HyenaBlockForward& args) {
  expect_hyena_block(args);
  if (!hyena_block_is_fused(args)) return composed::hyena_block_forward(stream, args);
  fused_block::expect_filter(args);
  if (args.in.modal()) return modal_mma::forward(stream, args);
  if (fused_block::suits_se(args)) return fused_block::se_forward(stream, args);
  fused_block::mr_forward(stream, args);
}

void hyena_block_backward(const Stream& stream, const HyenaBlockBackward& args) {
  expect_hyena_block(args);
  const bool modal = modal_mma::suits(args);
  if (!modal && !hyena_block_is_fused(args)) return composed::hyena_block_backward(stream, args);
  fused_block::expect_filter(args.in);
  if (args.in.skip.present()) expect("d_skip", args.d_skip, DType::f32, args.in.skip.shape);
  if (modal) {
    fused_block::expect_modes(args);
    return modal_mma::backward(stream, args);
  }
  expect("d_taps", args.d_taps, DType::f32, args.in.taps.shape);
  if (fused_block::suits_se(args)) return fused_block::se_backward(stream, args);
  fused_block::mr_backward(stream, args);
}

void hyena_block_summary(const Stream& stream, const HyenaBlockSummary& args) {
  expect_hyena_block(args.in);
  if (!modal_mma::suits(args)) return composed::hyena_block_summary(stream, args);
  expect("state", args.state, DType::f32, args.in.log_rates.shape);
  modal_mma::summary(stream, args);
}

}  // namespace causeway::cuda
