#include "src/model/activation_memory.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/hyena_block.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "parallel/strategies/attention/heads.hpp"
#include "src/model/model.hpp"
#include "src/model/offload/offloaded_tensors.hpp"
#include "src/model/parameters/fp8_shapes.hpp"

namespace causeway {
namespace {

/// Bytes a local token of a sublayer: kept for backward; the most that exists beside it in its forward and in its
/// backward pass.
struct SublayerBytes {
  double kept = 0, forward = 0, backward = 0;

  SublayerBytes& operator+=(const SublayerBytes& other) {
    kept += other.kept;
    forward += other.forward;
    backward += other.backward;
    return *this;
  }
};

/// The sizes of a model in the types of a run. Names of tensors are those of the layers' files.
class Sizes {
 public:
  Sizes(const ModelOptions& model, const ActivationShape& shape)
      : m(model),
        s(shape),
        w(static_cast<double>(size_of(shape.dtype))),
        a(static_cast<double>(size_of(accumulator_of(shape.dtype)))) {}

  SublayerBytes mixer(std::string_view layer) const {
    if (layer == "mamba") return mamba();
    if (layer == "attention") return attention();
    if (layer == "se") return hyena_block("hyena_se", m.se_taps);
    if (layer == "mr") return hyena_block("hyena_mr", m.mr_taps);
    if (layer == "li") return hyena_li();
    fail(ExitCode::internal, "the memory of layer '{}' is not known", layer);
  }

  /// An MLP, with its norm, of which all is kept.
  SublayerBytes kept_mlp() const {
    const auto F = static_cast<double>(m.ffn);
    // kept: ab, norm. forward: out, and a tile's gated. backward: tile_backward.
    return {.kept = 2 * F * w + norm_of_mlp(),
            .forward = output() + tile_share() * F * w + operands(F, width(), Fp8Level::all, tile_share()),
            .backward = tile_backward()};
  }
  /// One of which only the mixer's output is kept. `of_last`: of the last block, which runs forward as a whole; of one
  /// that is computed again for its backward pass only tiles run again.
  SublayerBytes rerun_mlp(bool of_last) const {
    const auto F = static_cast<double>(m.ffn);
    // forward: residual, out, and of a tile normalised, ab, gated. backward, of a tile: norm, ab, and as above.
    const double tile = tile_share() * (rows_for(2 * m.ffn, m.width, Fp8Level::all) + 3 * F * w);
    return {.kept = tile_share() < 1 ? output() : 0,  // of one tile it is freed before
            .forward = of_last ? residual() + output() + tile : 0,
            .backward = tile_share() * (norm_of_mlp() + 2 * F * w) + tile_backward()};
  }
  /// The part of the tokens that is in a tile of an MLP.
  double tile_share() const {
    const std::int64_t tile = s.block_tile > 0 ? s.block_tile : Model::block_tile(m);
    return std::min(1., static_cast<double>(tile) / static_cast<double>(std::max<std::int64_t>(s.tokens, 1)));
  }

  /// What Model::train keeps for a mixer's norm, and needs in its passes. With recomputation and several tiles
  /// normalised and rstd are there during the forward pass, and in tiles at the end of the backward pass.
  SublayerBytes norm_of_mixer(std::string_view layer) const {
    const std::int64_t outputs = layer == "mamba" ? 2 * m.d_inner() : 3 * m.width;
    const double all = residual() + rows_for(outputs, m.width, Fp8Level::projections) + a;
    if (!s.recompute || tile_share() == 1) return {.kept = all};
    return {.kept = residual(), .forward = all - residual()};
  }
  double residual() const { return width() * a; }
  double output() const { return width() * w; }  ///< of a branch
  /// The gradient of the residual stream, as the branches read it: 8-bit floats; in the compute type, if one of their
  /// products is not of 8-bit floats, or has a bias.
  double d_narrow() const {
    if (w == a) return 0;
    bool values = m.out_bias, codes = false;
    const auto add = [&](std::int64_t inputs) {
      (reads_codes(m.width, inputs, Fp8Level::all) ? codes : values) = true;
    };
    for (const std::string& layer : m.layers) add(layer == "mamba" ? m.d_inner() : m.width);
    if (m.ffn > 0) add(m.ffn);
    return (values ? width() * w : 0) + (codes ? width() + scale_bytes : 0);
  }
  double always() const { return 2 * sizeof(std::int32_t) + a; }  ///< ids, labels, losses
  /// Not for each token: the tiles of the head.
  double head(double tokens) const {
    const double rows = std::min(tokens, static_cast<double>(Model::head_tile(m)));
    return rows * (width() * (a + w) + a + static_cast<double>(m.vocabulary) * (a + (w == a ? 0 : w)));
  }

 private:
  double width() const { return static_cast<double>(m.width); }

  /// The share of a token in bytes that do not grow with the tokens.
  double a_token(double bytes) const { return bytes / static_cast<double>(std::max<std::int64_t>(s.tokens, 1)); }
  /// Whether 8-bit floats are kept as such, not as numbers of the compute type.
  bool has_codes() const { return s.device == Device::cuda && s.dtype == DType::bf16; }
  static constexpr double scale_bytes = 4;  ///< of a row of 8-bit floats
  /// Whether a product with a weight [outputs, inputs], which is in FP8 from `level` on, multiplies 8-bit floats.
  bool reads_codes(std::int64_t outputs, std::int64_t inputs, Fp8Level level) const {
    return s.fp8 >= level && has_codes() && inputs % 16 == 0 && outputs % 16 == 0 && fp8_pays(outputs, inputs);
  }
  /// A row that such a product reads.
  double rows_for(std::int64_t outputs, std::int64_t inputs, Fp8Level level) const {
    const auto channels = static_cast<double>(inputs);
    return reads_codes(outputs, inputs, level) ? channels + scale_bytes : channels * w;
  }
  /// A mixer's output of so many channels as it is kept for the gradient of out_proj.
  double kept_output(double channels) const {
    return rows_for(m.width, static_cast<std::int64_t>(channels), Fp8Level::all);
  }
  /// Of an MLP: residual, normalised, rstd.
  double norm_of_mlp() const { return residual() + rows_for(2 * m.ffn, m.width, Fp8Level::all) + a; }
  /// What a product [tokens, columns] by [columns, others] rounds to 8-bit floats, if it does at all or, for an input
  /// projection, from that level on: rows of tokens and the weight.
  /// `share`: of the tokens.
  double operands(double columns, double others, Fp8Level level = Fp8Level::all, double share = 1) const {
    return s.fp8 < level ? 0 : (share * columns + a_token(columns * others)) * (has_codes() ? 1 : w);
  }
  /// The same backward, where a weight's gradient needs the rows of both gradient and input.
  double operands_back(double columns, double inputs, Fp8Level level = Fp8Level::all, double share = 1) const {
    const double rows = operands(columns, 0, level, share), weight = operands(columns, inputs, level, share) - rows;
    // Codes of the gradient are transposed; other numbers are made again.
    return rows + std::max(weight, operands(inputs, 0, level, share) + (has_codes() ? rows : 0));
  }
  /// Of a tile of an MLP, beside ab: d_gated, which becomes gated, or both as 8-bit floats; then d_x.
  double tile_backward() const {
    const auto F = static_cast<double>(m.ffn);
    const double rows = s.fp8 == Fp8Level::all && has_codes() ? 2 : 1;
    return std::max(tile_share() * rows * F * w + operands_back(width(), F, Fp8Level::all, tile_share()),
                    tile_share() * width() * w + operands_back(2 * F, width(), Fp8Level::all, tile_share()));
  }
  double a_cut_token(double bytes) const { return s.context_size > 1 ? a_token(bytes) : 0; }  ///< where packs are cut
  double blocks_of(std::int64_t block) const { return static_cast<double>(ceil_div(s.tokens, block)); }

  /// Whether the operator's strategy is `name`, or `name` + "_pipelined" or "_overlapped".
  bool runs_by(std::string_view op, std::string_view name) const {
    const auto found = s.strategies.find(op);
    return found != s.strategies.end() && found->second.starts_with(name);
  }

  /// causal_conv over `channels`.
  SublayerBytes convolution(double channels, double taps) const {
    if (!runs_by("causal_conv", "all_to_all")) return {.kept = a_cut_token((taps - 1) * channels * w)};  // halo
    return {.kept = channels * w, .forward = 2 * channels * w, .backward = 3 * channels * w};
  }

  SublayerBytes mamba() const {
    const auto I = static_cast<double>(m.d_inner()), N = static_cast<double>(m.state),
               R = static_cast<double>(m.rank_of_dt());
    // kept: xz, u, dbc, delta, y. backward: d_y, d_xz, d_u, d_delta, d_dbc, without y.
    const double y = kept_output(I);
    SublayerBytes bytes{
        .kept = (4 * I + R + 2 * N) * w + y,
        .forward = std::max(y < I * w ? I * w : 0, width() * w + operands(I, width())),
        // With d_x of a tile and the operands of in_proj: when d_y has been freed.
        .backward = (5 * I + R + 2 * N) * w - y +
                    std::max(0., tile_share() * width() * w +
                                     operands_back(2 * I, width(), Fp8Level::projections, tile_share()) - I * w)};
    // In bf16 a GPU's scan takes 64 bytes a token for each 16 channels of its sums of d_B and d_C, before
    // d_x exists.
    constexpr std::int64_t states = 16, channels = 16;
    if (s.device == Device::cuda && w < a && m.state == states && m.d_inner() % channels == 0)
      bytes.backward = std::max(bytes.backward, (5 * I + R + 2 * N) * w - y + 64 * I / channels);
    bytes += convolution(I, static_cast<double>(m.conv_taps));
    // kept: A and the states of blocks of tokens. beside: what enters, leaves and is sent of a scan.
    bytes += {.kept = a_token((1 + blocks_of(selective_scan_block)) * I * N * a),
              .forward = a_cut_token(3 * I * N * a),
              .backward = a_token(I * N * a) + a_cut_token(3 * I * N * a)};
    if (runs_by("selective_scan", "all_to_all")) {
      const double gathered = 2 * N * static_cast<double>(s.context_size) * w;  // B and C of the whole pack
      bytes += {.kept = gathered + 3 * I * w, .forward = 2 * I * w, .backward = gathered + 4 * I * w};
    }
    return bytes;
  }

  SublayerBytes hyena_block(std::string_view op, std::int64_t taps) const {
    const double W = width();
    // kept: projected, y. forward: out. backward: d_y; then, without y, d_projected too. A block that is not fused
    // holds its features in the forward pass and their gradients in the backward pass.
    const double beside = block_is_fused(taps) ? 0 : 3 * W * w;
    SublayerBytes bytes{.kept = 3 * W * w + kept_output(W),
                        .forward = std::max(beside, W * w + operands(W, W)),
                        .backward = std::max({W * w + operands_back(W, W), 4 * W * w + beside - kept_output(W),
                                              input_gradient() - kept_output(W)})};
    if (runs_by(op, "all_to_all")) return bytes += {.kept = 3 * W * w, .forward = 4 * W * w, .backward = 7 * W * w};
    bytes.kept += a_cut_token(static_cast<double>(taps + 1) * 3 * W * w);  // halo
    return bytes;
  }

  /// Of the last product's adjoint of a hyena mixer, where d_projected has projected's place: d_x of a tile.
  double input_gradient() const {
    return tile_share() * width() * w + operands_back(3 * width(), width(), Fp8Level::projections, tile_share());
  }

  /// Of hyena_block with taps on a rank's tokens.
  bool block_is_fused(std::int64_t taps) const {
    const auto of = [&](std::int64_t columns) { return view_of(nullptr, s.dtype, {s.tokens, columns}); };
    const TensorView projected = of(3 * m.width), y = of(m.width);
    HyenaBlockBackward call;
    call.in.q = call.d_q = projected.slice_columns(0, m.width);
    call.in.k = call.d_k = projected.slice_columns(m.width, m.width);
    call.in.v = call.d_v = projected.slice_columns(2 * m.width, m.width);
    call.in.featurizer = view_of(nullptr, s.dtype, {3 * m.width, 3});
    call.in.taps = view_of(nullptr, accumulator_of(s.dtype), {m.groups_of_filters(), taps});
    call.d_y = y;
    return hyena_block_is_fused(s.device, {.in = call.in, .state_in = {}, .y = y, .state_out = {}}) &&
           hyena_block_is_fused(s.device, call);
  }

  SublayerBytes hyena_li() const {
    const double W = width();
    // kept: projected, features, y. backward: d_y; then, without y, d_features too; d_projected takes features' place.
    SublayerBytes bytes{.kept = 6 * W * w + kept_output(W),
                        .forward = W * w + operands(W, W),
                        .backward = std::max({W * w + operands_back(W, W), 4 * W * w - kept_output(W),
                                              input_gradient() - kept_output(W) - 3 * W * w})};
    bytes += convolution(3 * W, 3);
    if (!runs_by("hyena_li", "fft"))
      bytes.kept += a_token(blocks_of(modal_conv_block) * W * static_cast<double>(m.modes) * a);  // states
    if (runs_by("hyena_li", "all_to_all")) bytes += {.kept = 2 * W * w, .forward = 2 * W * w, .backward = 4 * W * w};
    if (runs_by("hyena_li", "fft")) bytes += {.kept = 2 * W * w, .forward = 8 * W * a, .backward = 12 * W * a};
    return bytes;
  }

  /// Of the layer: q, k, v, y and lse are kept; forward makes its output, backward d_qkv, d_y and delta. What a
  /// strategy holds beside them: parallel/strategies/attention/README.md.
  SublayerBytes attention() const {
    const double W = width(), H = static_cast<double>(m.heads), N = static_cast<double>(s.context_size);
    const bool alone = s.context_size == 1, ring = !alone && runs_by("attention", "ring"),
               all_gather = !alone && runs_by("attention", "all_gather"), all_to_all = !alone && !ring && !all_gather;
    const ShardLayout layout(s.tokens * s.context_size, static_cast<int>(s.context_size), Layout::contiguous);
    const TensorView own = view_of(nullptr, s.dtype, {s.tokens, m.heads, m.width / m.heads});
    // Heads of the rank with most, and of one call.
    const std::int64_t share = all_to_all ? ceil_div(m.heads, s.context_size) : m.heads,
                       slices = all_to_all ? attention::slices_of_own_heads(layout, own)
                                           : attention::slices_of_all_heads(layout, own),
                       heads = ceil_div(share, slices);
    const double part = static_cast<double>(heads) / H;  // of a tensor by tokens

    // The workspace of one call.
    const auto of_call = [&](bool all_tokens) {
      return view_of(nullptr, s.dtype, {all_tokens ? layout.tokens() : s.tokens, heads, m.width / m.heads});
    };
    const TensorView keys = of_call(all_to_all || all_gather);
    AttentionInputs in{.q = of_call(all_to_all), .k = keys, .v = keys};
    if (!s.cu_seqlens.empty() && s.cu_seqlens.back() == in.q.rows())
      in.segments = {.cu_seqlens = nullptr,
                     .count = std::ssize(s.cu_seqlens) - 1,
                     .tokens = s.cu_seqlens.back(),
                     .host = s.cu_seqlens.data()};
    const AttentionForm form = attention_form(s.device, in);
    const double wide = w == a ? 0 : W * a, wide_gradient = form.fused ? 0 : wide;  // sums that are rounded later

    SublayerBytes bytes{.kept = 4 * W * w + H * a, .forward = W * w, .backward = 4 * W * w + H * a};
    double forward = 0;
    if (alone) {
      bytes.backward += 3 * wide_gradient;
    } else if (ring) {
      forward = (4 * W * w + wide) * part;
      bytes.backward += (2 * std::min(N, 4.) * W * w + 2 * W * a + 3 * wide) * part;
    } else if (all_gather) {
      bytes.kept += 2 * N * W * w;
      const double reduced = ((N - 1) * W * (w == a ? w : 2 * w) + W * a) / attention::all_gather_pieces(layout, own);
      bytes.backward += (2 * N * W * a + std::max(wide, reduced)) * part;
    } else {
      const double by_heads = W * N * static_cast<double>(share) / H;
      bytes.kept += 3 * (by_heads - W) * w;
      forward = 3 * W * w + (2 * N - 1) * part * W * w;  // y of a slice and what is received of it
      bytes.backward += (4 * W * w + 3 * wide_gradient + H * a) * N * part;
    }
    bytes.forward = std::max(bytes.forward + operands(W, W), forward);
    bytes.backward += static_cast<double>(form.workspace) / static_cast<double>(std::max<std::int64_t>(s.tokens, 1));
    bytes.backward = std::max(bytes.backward, 4 * W * w + operands_back(3 * W, W, Fp8Level::projections,
                                                                        tile_share()));  // after the operator
    return bytes;
  }

  const ModelOptions& m;
  const ActivationShape& s;
  const double w, a;  // bytes of an element in the compute type and in the accumulator type
};

}  // namespace

ActivationBytes activation_bytes(const ModelOptions& model, const ActivationShape& shape) {
  const Sizes sizes(model, shape);
  const auto tokens = static_cast<double>(shape.tokens);
  std::vector<std::vector<SublayerBytes>> blocks;  // the branches of each block, with what Model::train keeps of them
  // With recomputation the last block keeps all of an MLP of one tile.
  const bool reruns_last = model.ffn > 0 && shape.recompute && sizes.tile_share() < 1;
  for (const std::string& layer : model.layers) {
    blocks.push_back({sizes.mixer(layer)});
    blocks.back().front() += sizes.norm_of_mixer(layer);
    if (model.ffn == 0) continue;
    const bool is_last = blocks.size() == model.layers.size(), reruns = shape.recompute && (!is_last || reruns_last);
    blocks.back().push_back(reruns ? sizes.rerun_mlp(is_last) : sizes.kept_mlp());
  }
  // A branch's backward pass begins when all branches before it are kept, and those after it are released.
  const auto most_in_backward = [](const std::vector<SublayerBytes>& branches, double& kept) {
    double most = 0;
    for (const SublayerBytes& branch : branches) {
      kept += branch.kept;
      most = std::max(most, kept + std::max(branch.forward, branch.backward));
    }
    return most;
  };
  double kept = 0;           // for each token
  std::size_t inputs = 0;    // of recomputed blocks, that are kept
  std::vector<double> most;  // of each block
  if (shape.recompute) {
    // A block that is computed again keeps as much as without recomputation, its input among it. Beside it are the
    // inputs of every N-th block up to it, and those of the blocks between the last of these and it.
    // If inputs are offloaded, one of them is returning beside every N-th block.
    const auto every = static_cast<std::size_t>(shape.recompute_blocks);
    const auto on_device = [&](std::size_t count) { return shape.offload ? std::min<std::size_t>(count, 1) : count; };
    for (std::size_t i = 0; i + 1 < blocks.size(); ++i) {
      const std::size_t before = shape.offload && i % every > 0 ? 0 : on_device(i / every);
      double of_block = sizes.residual() * static_cast<double>(before + i % every);
      most.push_back(most_in_backward(blocks[i], of_block));
    }
    // The last block is not computed again.
    inputs = ceil_div(blocks.size() - 1, every);
    kept = sizes.residual() * static_cast<double>(on_device(inputs));
    most.push_back(most_in_backward(blocks.back(), kept));
    if (shape.offload) kept -= sizes.residual() * static_cast<double>(on_device(inputs));  // that returns later
  } else {
    for (const std::vector<SublayerBytes>& block : blocks) most.push_back(most_in_backward(block, kept));
  }
  const double beside = sizes.residual() + sizes.d_narrow() + sizes.always();  // the residual stream's gradient
  ActivationBytes bytes{
      .kept = kept * tokens,
      .at_head = (kept + (reruns_last ? sizes.residual() : 0) + sizes.output() + beside) * tokens + sizes.head(tokens)};
  bytes.at_end = beside * tokens;
  if (shape.offload)
    bytes.offloaded =
        static_cast<double>(inputs) *
        static_cast<double>(OffloadedTensors::capacity(static_cast<std::int64_t>(sizes.residual() * tokens)));
  for (const double each : most) bytes.at_backward.push_back((each + beside) * tokens);
  bytes.working = std::max(bytes.at_head, std::ranges::max(bytes.at_backward)) - bytes.kept;
  return bytes;
}

}  // namespace causeway
