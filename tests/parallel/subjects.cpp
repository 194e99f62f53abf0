#include "tests/parallel/subjects.hpp"

#include <fmt/format.h>

#include <set>

#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

TensorView get(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView() : found->second.view();
}

/// Room for y and the gradient of every input: per-token ones full of numbers that must be overwritten, parameters' zero, to be added to.
Tensors outputs(const Stream& stream, const Tensors& in, const std::string& y_like) {
  Tensors out;
  const auto room = [&](TensorView like) { return random_tensor(stream, like.dtype, like.shape, 77); };
  out["y"] = room(get(in, y_like));
  for (const auto& [name, tensor] : in) {
    if (name == "d_y") continue;
    const TensorView view = tensor.view();
    out["d_" + name] = per_token(name) ? room(view) : Tensor::zeros(stream, accumulator_of(view.dtype), view.shape);
  }
  return out;
}

struct ConvolutionVariant {
  std::int64_t taps;
  bool bias;
  Activation activation;
};

Tensors convolution_inputs(const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed, const ConvolutionVariant& variant) {
  constexpr std::int64_t channels = 5;
  Tensors in;
  in["x"] = random_tensor(stream, dtype, {tokens, channels}, seed);
  in["d_y"] = random_tensor(stream, dtype, {tokens, channels}, seed + 1);
  in["weight"] = random_tensor(stream, dtype, {channels, variant.taps}, seed + 2);
  if (variant.bias) in["bias"] = random_tensor(stream, dtype, {channels}, seed + 3);
  return in;
}

CausalConvForward convolution_forward(const Tensors& in, const Tensors& out, Activation activation) {
  return {.x = get(in, "x"), .weight = get(in, "weight"), .bias = get(in, "bias"), .activation = activation, .y = get(out, "y")};
}

CausalConvBackward convolution_backward(const Tensors& in, const Tensors& out, Activation activation) {
  return {.x = get(in, "x"), .weight = get(in, "weight"), .bias = get(in, "bias"), .activation = activation, .d_y = get(in, "d_y"),
          .d_x = get(out, "d_x"), .d_weight = get(out, "d_weight"), .d_bias = get(out, "d_bias")};
}

Subject convolution_subject(const ConvolutionStrategy& row, Schedule schedule, const ConvolutionVariant& variant) {
  const Activation activation = variant.activation;
  return {.name = fmt::format("causal_conv_{}_{}_W{}_{}", row.name, name_of(schedule), variant.taps, name_of(activation)),
          .strategy = fmt::format("causal_conv {}", row.name),
          .layouts = row.layouts,
          .schedule = schedule,
          .linear_in = activation == Activation::none && !variant.bias ? "x" : "",
          .inputs = [=](const Stream& stream, DType dtype, std::int64_t tokens,
                        std::uint64_t seed) { return convolution_inputs(stream, dtype, tokens, seed, variant); },
          .sharded =
              [=](const StrategyContext& context, const Tensors& in) {
                Tensors out = outputs(context.stream, in, "x");
                Saved saved;
                row.forward(context, convolution_forward(in, out, activation), &saved);
                row.backward(context, convolution_backward(in, out, activation), saved);
                ensure(saved.empty(), "forward saved what backward did not take");
                return out;
              },
          .scored =
              [=](const StrategyContext& context, const Tensors& in) {
                Tensors out = outputs(context.stream, in, "x");
                row.forward(context, convolution_forward(in, out, activation), nullptr);
                return std::move(out.at("y"));
              },
          .alone =
              [=](const Stream& stream, const Segments& segments, const Tensors& in) {
                Tensors out = outputs(stream, in, "x");
                const auto cu_seqlens = segments.slice(0, segments.tokens());
                CausalConvForward forward = convolution_forward(in, out, activation);
                CausalConvBackward backward = convolution_backward(in, out, activation);
                forward.segments = backward.segments = segments_view(cu_seqlens, segments.tokens());
                if (segments.tokens() == 0) return out;
                causal_conv_forward(stream, forward);
                causal_conv_backward(stream, backward);
                return out;
              }};
}

struct ScanVariant {
  bool gate, delta_bias, softplus;
};

Tensors scan_inputs(const Stream& stream, DType dtype, std::int64_t tokens, std::uint64_t seed, const ScanVariant& variant) {
  constexpr std::int64_t channels = 6, states = 3;
  const DType wide = accumulator_of(dtype);
  Tensors in;
  in["u"] = random_tensor(stream, dtype, {tokens, channels}, seed);
  in["delta"] = random_tensor(stream, dtype, {tokens, channels}, seed + 1, variant.softplus ? -3 : 0.01, variant.softplus ? 0 : 0.2);
  in["B"] = random_tensor(stream, dtype, {tokens, states}, seed + 2);
  in["C"] = random_tensor(stream, dtype, {tokens, states}, seed + 3);
  in["A"] = random_tensor(stream, wide, {channels, states}, seed + 4, -1.5, -0.05);
  in["D"] = random_tensor(stream, wide, {channels}, seed + 5);
  if (variant.gate) in["z"] = random_tensor(stream, dtype, {tokens, channels}, seed + 6, -2, 2);
  if (variant.delta_bias) in["delta_bias"] = random_tensor(stream, wide, {channels}, seed + 7, 0, 0.1);
  in["d_y"] = random_tensor(stream, dtype, {tokens, channels}, seed + 8);
  return in;
}

SelectiveScanInputs scan_arguments(const Tensors& in, bool softplus) {
  return {.u = get(in, "u"), .delta = get(in, "delta"), .z = get(in, "z"), .A = get(in, "A"), .B = get(in, "B"), .C = get(in, "C"),
          .D = get(in, "D"), .delta_bias = get(in, "delta_bias"), .delta_softplus = softplus};
}

SelectiveScanBackward scan_backward(const Tensors& in, const Tensors& out, bool softplus) {
  return {.in = scan_arguments(in, softplus), .d_y = get(in, "d_y"), .d_u = get(out, "d_u"), .d_delta = get(out, "d_delta"), .d_B = get(out, "d_B"),
          .d_C = get(out, "d_C"), .d_z = get(out, "d_z"), .d_A = get(out, "d_A"), .d_D = get(out, "d_D"), .d_delta_bias = get(out, "d_delta_bias")};
}

Subject scan_subject(const SelectiveScanStrategy& row, Schedule schedule, const ScanVariant& variant) {
  const bool softplus = variant.softplus;
  return {.name = fmt::format("selective_scan_{}_{}{}{}", row.name, name_of(schedule), variant.gate ? "_gate" : "", softplus ? "_softplus" : ""),
          .strategy = fmt::format("selective_scan {}", row.name),
          .layouts = row.layouts,
          .schedule = schedule,
          .linear_in = "u",
          .inputs = [=](const Stream& stream, DType dtype, std::int64_t tokens,
                        std::uint64_t seed) { return scan_inputs(stream, dtype, tokens, seed, variant); },
          .sharded =
              [=](const StrategyContext& context, const Tensors& in) {
                Tensors out = outputs(context.stream, in, "u");
                Saved saved;
                row.forward(context, {.in = scan_arguments(in, softplus), .y = get(out, "y")}, &saved);
                row.backward(context, scan_backward(in, out, softplus), saved);
                ensure(saved.empty(), "forward saved what backward did not take");
                return out;
              },
          .scored =
              [=](const StrategyContext& context, const Tensors& in) {
                Tensors out = outputs(context.stream, in, "u");
                row.forward(context, {.in = scan_arguments(in, softplus), .y = get(out, "y")}, nullptr);
                return std::move(out.at("y"));
              },
          .alone =
              [=](const Stream& stream, const Segments& segments, const Tensors& in) {
                Tensors out = outputs(stream, in, "u");
                const auto cu_seqlens = segments.slice(0, segments.tokens());
                const std::int64_t blocks = (segments.tokens() + selective_scan_block - 1) / selective_scan_block;
                const Tensor states(stream, get(in, "A").dtype, {blocks, get(in, "A").rows(), get(in, "A").columns()});
                SelectiveScanForward forward{.in = scan_arguments(in, softplus), .y = get(out, "y"), .states = states};
                SelectiveScanBackward backward = scan_backward(in, out, softplus);
                backward.states = states;
                forward.in.segments = backward.in.segments = segments_view(cu_seqlens, segments.tokens());
                if (segments.tokens() == 0) return out;
                selective_scan_forward(stream, forward);
                selective_scan_backward(stream, backward);
                return out;
              }};
}

std::vector<Schedule> schedules_of(std::span<const Schedule> schedules) {
  return schedules.empty() ? std::vector{Schedule::automatic} : std::vector(schedules.begin(), schedules.end());
}

}  // namespace

bool per_token(const std::string& name) {
  static const std::set<std::string> names{"y", "x", "u", "delta", "z", "B", "C"};
  return names.contains(name) || (name.starts_with("d_") && names.contains(name.substr(2)));
}

std::vector<Subject> every_subject() {
  std::vector<Subject> subjects;
  for (const ConvolutionStrategy& row : convolution_strategies())
    for (const Schedule schedule : schedules_of(row.schedules))
      for (const ConvolutionVariant& variant :
           {ConvolutionVariant{4, true, Activation::silu}, ConvolutionVariant{30, false, Activation::none}, ConvolutionVariant{1, true, Activation::none}})
        subjects.push_back(convolution_subject(row, schedule, variant));
  for (const SelectiveScanStrategy& row : selective_scan_strategies())
    for (const Schedule schedule : schedules_of(row.schedules))
      for (const ScanVariant& variant : {ScanVariant{true, true, true}, ScanVariant{false, false, false}})
        subjects.push_back(scan_subject(row, schedule, variant));
  return subjects;
}

}  // namespace causeway::test
