#include "tests/parallel/strategy_cases.hpp"

#include <fmt/format.h>

#include <set>

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "kernels/core/integer.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

TensorView get(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView() : found->second.view();
}

/// Tensors for y and the gradient of every input but the factors of a product, `a` and `b`: those of tokens filled with
/// random values, which must be overwritten; those of parameters zero, because gradients are added to them.
Tensors outputs(const Stream& stream, const Tensors& in) {
  Tensors out;
  const auto allocate = [&](TensorView like) { return random_tensor(stream, like.dtype, like.shape, 77); };
  out["y"] = allocate(get(in, "d_y"));
  for (const auto& [name, tensor] : in) {
    if (name == "d_y" || name == "a" || name == "b") continue;
    const TensorView view = tensor.view();
    out["d_" + name] = per_token(name) ? allocate(view) : Tensor::zeros(stream, accumulator_of(view.dtype), view.shape);
  }
  return out;
}

/// Copies of all tensors in the memory of another stream's device.
Tensors moved(const Tensors& all, const Stream& from, const Stream& to) {
  Tensors copies;
  for (const auto& [name, tensor] : all) copies[name] = test::moved(tensor.view(), from, to);
  return copies;
}

/// Calls run(in, out) with tensors in the memory of the stream's device; returns `out` in host memory, where `in` is.
template <class Run>
Tensors computed(const Stream& stream, const Tensors& in, const Run& run) {
  const Stream host;
  Tensors out = outputs(host, in);
  const Tensors on_device = moved(in, host, stream);  // also on the CPU: some may be overwritten
  if (stream.device() == Device::cpu) {
    run(on_device, out);
    return out;
  }
  out = moved(out, host, stream);
  run(on_device, out);
  return moved(out, stream, host);
}

/// An operator: its inputs by name, and the argument structs for its strategies and kernels.
template <class Forward, class Backward>
struct Family {
  std::string name;  ///< of the operator and its variant
  std::string op;    ///< of the operator
  std::string linear_in;
  std::function<Tensors(const Stream&, DType, std::int64_t tokens, std::uint64_t seed)> inputs;
  std::function<Forward(const Tensors& in, const Tensors& out)> forward;
  std::function<Backward(const Tensors& in, const Tensors& out)> backward;
  /// Forward and backward by the kernel, on a whole pack of at least one token.
  std::function<void(const Stream&, SegmentsView, Forward, Backward)> run_kernels;
  bool carries = true;  ///< false: the row's schedules make no difference
};

template <class Forward, class Backward>
StrategyCase make_case(const Strategy<Forward, Backward>& row, Schedule schedule, Method method,
                       const Family<Forward, Backward>& family) {
  return {.name = fmt::format("{}_{}_{}_{}", family.name, row.name, name_of(schedule), name_of(method)),
          .strategy = fmt::format("{} {}", family.op, row.name),
          .layouts = row.layouts,
          .schedule = schedule,
          .method = method,
          .linear_in = family.linear_in,
          .inputs = family.inputs,
          .run =
              [=](const StrategyContext& context, const Tensors& in) {
                return computed(context.stream, in, [&](const Tensors& device_in, const Tensors& out) {
                  Saved saved;
                  row.forward(context, family.forward(device_in, out), &saved);
                  row.backward(context, family.backward(device_in, out), saved);
                  saved.ensure_empty();
                });
              },
          .run_forward =
              [=](const StrategyContext& context, const Tensors& in) {
                Tensors computed_y = computed(context.stream, in, [&](const Tensors& device_in, const Tensors& out) {
                  row.forward(context, family.forward(device_in, out), nullptr);
                });
                return std::move(computed_y.at("y"));
              },
          .cost = [=](const Sharding& sharding,
                      const Tensors& in) { return row.cost(sharding, family.forward(in, {})).forward; },
          .run_on_one_rank =
              [=](const Stream& stream, const Segments& segments, const Tensors& in) {
                Tensors out = outputs(stream, in);
                const Tensors own = moved(in, stream, stream);
                const auto cu_seqlens = segments.slice(0, segments.tokens());
                if (segments.tokens() > 0)
                  family.run_kernels(stream, segments_view(cu_seqlens, segments.tokens()), family.forward(own, out),
                                     family.backward(own, out));
                return out;
              }};
}

/// Adds a case for every row of a table and every schedule and method that the row offers.
template <class Forward, class Backward>
void add(std::vector<StrategyCase>& cases, std::span<const Strategy<Forward, Backward>> table,
         const Family<Forward, Backward>& family) {
  for (const auto& row : table) {
    if (row.schedules.empty() && row.methods.empty())
      cases.push_back(make_case(row, Schedule::automatic, Method::automatic, family));
    if (!family.carries && !row.schedules.empty())
      cases.push_back(make_case(row, Schedule::automatic, Method::automatic, family));
    for (const Schedule schedule : family.carries ? row.schedules : std::span<const Schedule>())
      cases.push_back(make_case(row, schedule, Method::automatic, family));
    for (const Method method : row.methods) cases.push_back(make_case(row, Schedule::automatic, method, family));
  }
}

Family<CausalConvForward, CausalConvBackward> causal_conv(std::int64_t taps, bool bias, Activation activation,
                                                          bool product = false) {
  return {.name = fmt::format("causal_conv_W{}_{}{}", taps, name_of(activation), product ? "_product" : ""),
          .op = "causal_conv",
          .linear_in = activation == Activation::none && !bias ? "x" : "",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t channels = 5;
                Tensors in;
                in["x"] = random_tensor(stream, dtype, {tokens, channels}, seed);
                in["d_y"] = random_tensor(stream, dtype, {tokens, channels}, seed + 1);
                in["weight"] = random_tensor(stream, dtype, {channels, taps}, seed + 2);
                if (bias) in["bias"] = random_tensor(stream, dtype, {channels}, seed + 3);
                if (product) {
                  in["a"] = random_tensor(stream, dtype, {tokens, 3}, seed + 4);
                  in["b"] = random_tensor(stream, dtype, {3, channels}, seed + 5);
                }
                return in;
              },
          .forward = [=](const Tensors& in, const Tensors& out) -> CausalConvForward {
            return {.x = get(in, "x"),
                    .halo = {},
                    .weight = get(in, "weight"),
                    .bias = get(in, "bias"),
                    .segments = {},
                    .activation = activation,
                    .y = get(out, "y")};
          },
          .backward = [=](const Tensors& in, const Tensors& out) -> CausalConvBackward {
            return {.x = get(in, "x"),
                    .halo = {},
                    .weight = get(in, "weight"),
                    .bias = get(in, "bias"),
                    .segments = {},
                    .activation = activation,
                    .d_y = get(in, "d_y"),
                    .d_y_product = {.a = get(in, "a"), .b = get(in, "b")},
                    .d_x = get(out, "d_x"),
                    .d_halo = {},
                    .d_weight = get(out, "d_weight"),
                    .d_bias = get(out, "d_bias")};
          },
          .run_kernels =
              [](const Stream& stream, SegmentsView segments, CausalConvForward forward, CausalConvBackward backward) {
                forward.segments = backward.segments = segments;
                causal_conv_forward(stream, forward);
                causal_conv_backward(stream, backward);
              }};
}

Tensors gated_inputs(const Stream& stream, DType dtype, std::int64_t tokens, std::int64_t channels,
                     std::uint64_t seed) {
  Tensors in;
  for (const char* name : {"q", "k", "v", "d_y"}) in[name] = random_tensor(stream, dtype, {tokens, channels}, ++seed);
  return in;
}

GatedConvInputs gated_arguments(const Tensors& in) {
  return {.q = get(in, "q"),
          .k = get(in, "k"),
          .v = in.contains("x") ? get(in, "x") : get(in, "v"),
          .skip = get(in, "skip"),
          .segments = {}};
}

GatedConvGradients gated_gradients(const Tensors& in, const Tensors& out) {
  return {.d_y = get(in, "d_y"),
          .d_q = get(out, "d_q"),
          .d_k = get(out, "d_k"),
          .d_v = in.contains("x") ? get(out, "d_x") : get(out, "d_v"),
          .d_skip = get(out, "d_skip")};
}

Family<BlockedConvForward, BlockedConvBackward> gated_conv(std::int64_t taps, bool skip) {
  return {
      .name = fmt::format("hyena_taps{}{}", taps, skip ? "_skip" : ""),
      .op = "hyena",
      .linear_in = "v",
      .inputs =
          [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
            constexpr std::int64_t channels = 6, groups = 3;
            Tensors in = gated_inputs(stream, dtype, tokens, channels, seed);
            in["taps"] = random_tensor(stream, dtype, {groups, taps}, seed + 5);
            if (skip) in["skip"] = random_tensor(stream, dtype, {channels}, seed + 6);
            return in;
          },
      .forward = [](const Tensors& in, const Tensors& out) -> BlockedConvForward {
        return {.in = gated_arguments(in), .halo = {}, .taps = get(in, "taps"), .y = get(out, "y")};
      },
      .backward = [](const Tensors& in, const Tensors& out) -> BlockedConvBackward {
        return {.in = gated_arguments(in),
                .halo = {},
                .taps = get(in, "taps"),
                .gradients = gated_gradients(in, out),
                .d_halo = {},
                .d_taps = get(out, "d_taps")};
      },
      .run_kernels =
          [](const Stream& stream, SegmentsView segments, BlockedConvForward forward, BlockedConvBackward backward) {
            forward.in.segments = backward.in.segments = segments;
            blocked_conv_forward(stream, forward);
            blocked_conv_backward(stream, backward);
          }};
}

Family<ModalConvForward, ModalConvBackward> modal_conv() {
  return {.name = "hyena_li",
          .op = "hyena_li",
          .linear_in = "v",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t channels = 5, modes = 3;
                Tensors in = gated_inputs(stream, dtype, tokens, channels, seed);
                in["residues"] = random_tensor(stream, accumulator_of(dtype), {channels, modes}, seed + 5);
                in["log_rates"] = random_tensor(stream, accumulator_of(dtype), {channels, modes}, seed + 6, -4, 0);
                in["skip"] = random_tensor(stream, dtype, {channels}, seed + 7);
                return in;
              },
          .forward = [](const Tensors& in, const Tensors& out) -> ModalConvForward {
            return {.in = gated_arguments(in),
                    .residues = get(in, "residues"),
                    .log_rates = get(in, "log_rates"),
                    .state_in = {},
                    .y = get(out, "y"),
                    .states = {}};
          },
          .backward = [](const Tensors& in, const Tensors& out) -> ModalConvBackward {
            return {.in = gated_arguments(in),
                    .residues = get(in, "residues"),
                    .log_rates = get(in, "log_rates"),
                    .states = {},
                    .adjoint_in = {},
                    .gradients = gated_gradients(in, out),
                    .d_residues = get(out, "d_residues"),
                    .d_log_rates = get(out, "d_log_rates")};
          },
          .run_kernels =
              [](const Stream& stream, SegmentsView segments, ModalConvForward forward, ModalConvBackward backward) {
                const std::int64_t blocks = ceil_div(segments.tokens, modal_conv_block);
                const Tensor states(stream, forward.residues.dtype,
                                    {blocks, forward.residues.rows(), forward.residues.columns()});
                forward.in.segments = backward.in.segments = segments;
                forward.states = backward.states = states;
                modal_conv_forward(stream, forward);
                modal_conv_backward(stream, backward);
              }};
}

Family<FftConvForward, FftConvBackward> long_conv() {
  return {.name = "long_conv",
          .op = "long_conv",
          .linear_in = "x",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t channels = 6, groups = 3;
                Tensors in;
                in["x"] = random_tensor(stream, dtype, {tokens, channels}, seed);
                in["d_y"] = random_tensor(stream, dtype, {tokens, channels}, seed + 1);
                in["taps"] =
                    random_tensor(stream, dtype, {groups, std::max<std::int64_t>(tokens - 3, 1)}, seed + 2, -0.3, 0.3);
                in["skip"] = random_tensor(stream, dtype, {channels}, seed + 3);
                return in;
              },
          .forward = [](const Tensors& in, const Tensors& out) -> FftConvForward {
            return {.in = gated_arguments(in), .taps = get(in, "taps"), .y = get(out, "y")};
          },
          .backward = [](const Tensors& in, const Tensors& out) -> FftConvBackward {
            return {.in = gated_arguments(in),
                    .taps = get(in, "taps"),
                    .gradients = gated_gradients(in, out),
                    .d_taps = get(out, "d_taps")};
          },
          .run_kernels =
              [](const Stream& stream, SegmentsView segments, FftConvForward forward, FftConvBackward backward) {
                forward.in.segments = backward.in.segments = segments;
                fft_conv_forward(stream, forward);
                fft_conv_backward(stream, backward);
              }};
}

/// hyena_block with taps; without any, with modes. With groups of a multiple of 8 channels a GPU has fused kernels for
/// bf16.
Family<HyenaBlockForward, HyenaBlockBackward> hyena_block(std::int64_t featurizer, std::int64_t taps, bool skip,
                                                          std::int64_t group_size = 2) {
  const auto arguments = [](const Tensors& in) -> HyenaBlockInputs {
    return {.q = get(in, "q"),
            .k = get(in, "k"),
            .v = get(in, "v"),
            .featurizer = get(in, "featurizer"),
            .skip = get(in, "skip"),
            .taps = get(in, "taps"),
            .residues = get(in, "residues"),
            .log_rates = get(in, "log_rates")};
  };
  return {.name = fmt::format("hyena_block_W{}_{}{}", featurizer, taps > 0 ? fmt::format("taps{}", taps) : "modes",
                              skip ? "_skip" : ""),
          .op = "hyena_block",
          .linear_in = "v",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t groups = 3, modes = 3;
                const std::int64_t channels = groups * group_size;
                const DType wide = accumulator_of(dtype);
                Tensors in = gated_inputs(stream, dtype, tokens, channels, seed);
                in["featurizer"] = random_tensor(stream, dtype, {3 * channels, featurizer}, seed + 5);
                if (taps > 0) {
                  in["taps"] = random_tensor(stream, dtype, {groups, taps}, seed + 6);
                } else {
                  in["residues"] = random_tensor(stream, wide, {channels, modes}, seed + 6);
                  in["log_rates"] = random_tensor(stream, wide, {channels, modes}, seed + 7, -4, 0);
                }
                if (skip) in["skip"] = random_tensor(stream, dtype, {channels}, seed + 8);
                return in;
              },
          .forward = [=](const Tensors& in, const Tensors& out) -> HyenaBlockForward {
            return {.in = arguments(in), .y = get(out, "y")};
          },
          .backward = [=](const Tensors& in, const Tensors& out) -> HyenaBlockBackward {
            return {.in = arguments(in),
                    .d_y = get(in, "d_y"),
                    .d_q = get(out, "d_q"),
                    .d_k = get(out, "d_k"),
                    .d_v = get(out, "d_v"),
                    .d_featurizer = get(out, "d_featurizer"),
                    .d_skip = get(out, "d_skip"),
                    .d_taps = get(out, "d_taps"),
                    .d_residues = get(out, "d_residues"),
                    .d_log_rates = get(out, "d_log_rates")};
          },
          .run_kernels =
              [](const Stream& stream, SegmentsView segments, HyenaBlockForward forward, HyenaBlockBackward backward) {
                forward.in.segments = backward.in.segments = segments;
                hyena_block_forward(stream, forward);
                hyena_block_backward(stream, backward);
              },
          .carries = taps == 0};
}

Family<SelectiveScanForward, SelectiveScanBackward> selective_scan(bool gate, bool delta_bias, bool softplus) {
  const auto arguments = [=](const Tensors& in) -> SelectiveScanInputs {
    return {.u = get(in, "u"),
            .delta = get(in, "delta"),
            .z = get(in, "z"),
            .A = get(in, "A"),
            .B = get(in, "B"),
            .C = get(in, "C"),
            .D = get(in, "D"),
            .delta_bias = get(in, "delta_bias"),
            .delta_softplus = softplus,
            .segments = {}};
  };
  return {.name = fmt::format("selective_scan{}{}", gate ? "_gate" : "", softplus ? "_softplus" : ""),
          .op = "selective_scan",
          .linear_in = "u",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t channels = 6, states = 3;
                const DType wide = accumulator_of(dtype);
                Tensors in;
                in["u"] = random_tensor(stream, dtype, {tokens, channels}, seed);
                in["delta"] = random_tensor(stream, dtype, {tokens, channels}, seed + 1, softplus ? -3 : 0.01,
                                            softplus ? 0 : 0.2);
                in["B"] = random_tensor(stream, dtype, {tokens, states}, seed + 2);
                in["C"] = random_tensor(stream, dtype, {tokens, states}, seed + 3);
                in["A"] = random_tensor(stream, wide, {channels, states}, seed + 4, -1.5, -0.05);
                in["D"] = random_tensor(stream, wide, {channels}, seed + 5);
                if (gate) in["z"] = random_tensor(stream, dtype, {tokens, channels}, seed + 6, -2, 2);
                if (delta_bias) in["delta_bias"] = random_tensor(stream, wide, {channels}, seed + 7, 0, 0.1);
                in["d_y"] = random_tensor(stream, dtype, {tokens, channels}, seed + 8);
                return in;
              },
          .forward = [=](const Tensors& in, const Tensors& out) -> SelectiveScanForward {
            return {.in = arguments(in), .state_in = {}, .y = get(out, "y"), .states = {}};
          },
          .backward = [=](const Tensors& in, const Tensors& out) -> SelectiveScanBackward {
            return {.in = arguments(in),
                    .states = {},
                    .adjoint_in = {},
                    .d_y = get(in, "d_y"),
                    .d_u = get(out, "d_u"),
                    .d_delta = get(out, "d_delta"),
                    .d_B = get(out, "d_B"),
                    .d_C = get(out, "d_C"),
                    .d_z = get(out, "d_z"),
                    .d_A = get(out, "d_A"),
                    .d_D = get(out, "d_D"),
                    .d_delta_bias = get(out, "d_delta_bias")};
          },
          .run_kernels =
              [](const Stream& stream, SegmentsView segments, SelectiveScanForward forward,
                 SelectiveScanBackward backward) {
                const std::int64_t blocks = ceil_div(segments.tokens, selective_scan_block);
                const Tensor states(stream, forward.in.A.dtype, {blocks, forward.in.A.rows(), forward.in.A.columns()});
                forward.in.segments = backward.in.segments = segments;
                forward.states = backward.states = states;
                selective_scan_forward(stream, forward);
                selective_scan_backward(stream, backward);
              }};
}

Family<RotaryAttentionForward, RotaryAttentionBackward> attention(std::int64_t width, RopeAngles angles,
                                                                  bool rotate_in_place = false) {
  return {.name = fmt::format("attention_E{}_rope{}_scaling{}{}", width, angles.base, angles.scaling,
                              rotate_in_place ? "_in_place" : ""),
          .op = "attention",
          .linear_in = "v",
          .inputs =
              [=](const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed) {
                constexpr std::int64_t heads = 3;
                Tensors in;
                for (const char* name : {"q", "k", "v", "d_y"})
                  in[name] = random_tensor(stream, dtype, {tokens, heads, width}, ++seed);
                return in;
              },
          .forward = [=](const Tensors& in, const Tensors& out) -> RotaryAttentionForward {
            return {.q = get(in, "q"),
                    .k = get(in, "k"),
                    .v = get(in, "v"),
                    .rope = angles,
                    .rotate_in_place = rotate_in_place,
                    .y = get(out, "y")};
          },
          .backward = [=](const Tensors& in, const Tensors& out) -> RotaryAttentionBackward {
            return {.q = get(in, "q"),
                    .k = get(in, "k"),
                    .v = get(in, "v"),
                    .rope = angles,
                    .rotate_in_place = rotate_in_place,
                    .y = get(out, "y"),
                    .d_y = get(in, "d_y"),
                    .d_q = get(out, "d_q"),
                    .d_k = get(out, "d_k"),
                    .d_v = get(out, "d_v")};
          },
          .run_kernels =
              [=](const Stream& stream, SegmentsView segments, RotaryAttentionForward forward,
                  RotaryAttentionBackward backward) {
                const DType wide = accumulator_of(forward.q.dtype);
                const Shape shape = forward.q.shape, per_head{shape[0], shape[1]};
                const Tensor q = converted(stream, forward.q, forward.q.dtype),
                             k = converted(stream, forward.k, forward.k.dtype), y(stream, wide, shape),
                             lse(stream, wide, per_head), delta(stream, wide, per_head);
                const auto apply_rope = [&](TensorView x, bool inverse) {
                  if (angles.base > 0)
                    rope(stream, {.x = x, .segments = segments, .angles = angles, .inverse = inverse, .y = x});
                };
                apply_rope(q, false);
                apply_rope(k, false);
                const AttentionInputs in{.q = q, .k = k, .v = forward.v, .key_offset = 0, .segments = segments};
                attention_forward(stream, {.in = in, .accumulate = false, .y = y, .lse = lse});
                scale(stream, {.x = y, .y = forward.y});
                attention_delta(stream, {.y = y, .d_y = backward.d_y, .delta = delta});
                const Tensor d_q = Tensor::zeros(stream, wide, shape), d_k = Tensor::zeros(stream, wide, shape),
                             d_v = Tensor::zeros(stream, wide, shape);
                attention_backward(
                    stream,
                    {.in = in, .lse = lse, .delta = delta, .d_y = backward.d_y, .d_q = d_q, .d_k = d_k, .d_v = d_v});
                apply_rope(d_q, true);
                apply_rope(d_k, true);
                scale(stream, {.x = d_q, .y = backward.d_q});
                scale(stream, {.x = d_k, .y = backward.d_k});
                scale(stream, {.x = d_v, .y = backward.d_v});
              }};
}

std::vector<StrategyCase> make_every_case() {
  std::vector<StrategyCase> cases;
  add(cases, convolution_strategies(), causal_conv(4, true, Activation::silu));
  add(cases, convolution_strategies(), causal_conv(4, true, Activation::silu, true));
  add(cases, convolution_strategies(), causal_conv(30, false, Activation::none));
  add(cases, convolution_strategies(), causal_conv(1, true, Activation::none));
  add(cases, gated_convolution_strategies(), gated_conv(7, false));
  add(cases, gated_convolution_strategies(), gated_conv(70, true));
  add(cases, modal_convolution_strategies(), modal_conv());
  add(cases, long_convolution_strategies(), long_conv());
  add(cases, hyena_block_strategies(), hyena_block(3, 7, false, 8));
  add(cases, hyena_block_strategies(), hyena_block(3, 9, true, 16));
  add(cases, hyena_block_strategies(), hyena_block(4, 70, true));
  add(cases, hyena_block_strategies(), hyena_block(3, 0, true));
  add(cases, selective_scan_strategies(), selective_scan(true, true, true));
  add(cases, selective_scan_strategies(), selective_scan(false, false, false));
  add(cases, attention_strategies(), attention(4, {.base = 10000}));
  add(cases, attention_strategies(), attention(4, {.base = 100, .scaling = 7}, true));
  add(cases, attention_strategies(), attention(3, {.base = 0}));
  return cases;
}

}  // namespace

bool per_token(const std::string& name) {
  static const std::set<std::string> names{"y", "x", "u", "delta", "z", "B", "C", "q", "k", "v", "a"};
  return names.contains(name) || (name.starts_with("d_") && names.contains(name.substr(2)));
}

const std::vector<StrategyCase>& every_strategy_case() {
  // static: each of the thousands of processes that ctest starts names all tests, and a name needs all cases.
  static const std::vector<StrategyCase> cases = make_every_case();
  return cases;
}

Tensors local_inputs(const Stream& stream, const Sharding& sharding, const Tensors& whole) {
  Tensors local;
  for (const auto& [name, tensor] : whole)
    local[name] =
        per_token(name) ? local_rows(stream, sharding, tensor) : converted(stream, tensor, tensor.view().dtype);
  return local;
}

}  // namespace causeway::test
