#include "tests/support/hyena_block.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/activation.hpp"
#include "kernels/modal_conv.hpp"
#include "tests/support/gated_convolution.hpp"

namespace causeway::test {
namespace {

std::vector<double>& resized(Values& values, const std::string& name, std::int64_t size) {
  values[name].assign(static_cast<std::size_t>(size), 0);
  return values[name];
}

/// A modal filter as one of explicit taps: h_t[d] = Σ_m residues λ^t for each channel, as long as the pack.
std::vector<double> taps_of(const HyenaBlock& c, const Values& in) {
  const std::int64_t T = std::max<std::int64_t>(c.cu_seqlens.back(), 1);
  std::vector<double> taps(static_cast<std::size_t>(c.channels() * T));
  for (std::int64_t i = 0; i < c.channels() * c.modes; ++i)
    for (std::int64_t t = 0; t < T; ++t)
      taps[static_cast<std::size_t>(i / c.modes * T + t)] +=
          in.at("residues")[static_cast<std::size_t>(i)] *
          std::exp(-std::exp(in.at("log_rates")[static_cast<std::size_t>(i)]) * static_cast<double>(t));
  return taps;
}

void taps_adjoint(const HyenaBlock& c, const Values& in, Values& out) {
  const std::int64_t T = std::max<std::int64_t>(c.cu_seqlens.back(), 1), count = c.channels() * c.modes;
  std::vector<double>&d_residues = resized(out, "d_residues", count), &d_rates = resized(out, "d_log_rates", count);
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t t = 0; t < T; ++t) {
      const auto mode = static_cast<std::size_t>(i);
      const double rate = std::exp(in.at("log_rates")[mode]), power = std::exp(-rate * static_cast<double>(t)),
                   d_tap = out.at("d_taps")[static_cast<std::size_t>(i / c.modes * T + t)];
      d_residues[mode] += d_tap * power;
      d_rates[mode] -= d_tap * in.at("residues")[mode] * rate * static_cast<double>(t) * power;
    }
  out.erase("d_taps");
}

/// Calls visit(i, j, tap) for each product of the featurizer: its result i takes input j times weight `tap`.
template <class Visit>
void for_each_product(const HyenaBlock& c, std::int64_t part, const Visit& visit) {
  const std::int64_t D = c.channels(), W = c.featurizer;
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < D; ++d)
        for (std::int64_t lag = 0; lag < W && t - lag >= c.cu_seqlens[s]; ++lag)
          visit(static_cast<std::size_t>(t * D + d), static_cast<std::size_t>((t - lag) * D + d),
                static_cast<std::size_t>((part * D + d) * W + W - 1 - lag));
}

/// Featurizer, gated convolution, and the adjoints of both, one after the other.
Values reference(const HyenaBlock& c, const Values& in) {
  Values features = in;
  for (std::int64_t part = 0; part < 3; ++part) {
    std::vector<double>& f = resized(features, block_parts[part], c.cu_seqlens.back() * c.channels());
    for_each_product(c, part, [&](std::size_t i, std::size_t j, std::size_t tap) {
      f[i] += in.at("featurizer")[tap] * in.at(block_parts[part])[j];
    });
  }
  GatedConvolution filter{.name = "",
                          .groups = c.groups,
                          .group_size = c.group_size,
                          .length = c.taps,
                          .cu_seqlens = c.cu_seqlens,
                          .skip = c.skip};
  if (c.modes > 0) {
    filter.groups = c.channels(), filter.group_size = 1, filter.length = std::max<std::int64_t>(c.cu_seqlens.back(), 1);
    features["taps"] = taps_of(c, in);
  }
  Values out = packed(filter).reference(features);
  if (c.modes > 0) taps_adjoint(c, in, out);
  std::vector<double>& d_featurizer = resized(out, "d_featurizer", 3 * c.channels() * c.featurizer);
  for (std::int64_t part = 0; part < 3; ++part) {
    const std::string name = std::string("d_") + block_parts[part];
    const std::vector<double> d_f = out.at(name);
    std::vector<double>& d_x = resized(out, name, std::ssize(d_f));
    for_each_product(c, part, [&](std::size_t i, std::size_t j, std::size_t tap) {
      d_x[j] += in.at("featurizer")[tap] * d_f[i];
      d_featurizer[tap] += in.at(block_parts[part])[j] * d_f[i];
    });
  }
  return out;
}

HyenaBlockInputs arguments(const Views& in, std::int64_t begin, std::int64_t end, const SegmentsView& segments) {
  return {.q = rows(in, "q", begin, end),
          .k = rows(in, "k", begin, end),
          .v = rows(in, "v", begin, end),
          .halo = {},
          .featurizer = view(in, "featurizer"),
          .skip = view(in, "skip"),
          .taps = view(in, "taps"),
          .residues = view(in, "residues"),
          .log_rates = view(in, "log_rates"),
          .segments = segments};
}

HyenaBlockBackward gradients(const Views& in, const Views& out, std::int64_t begin, std::int64_t end) {
  return {.in = {},
          .d_y = rows(in, "d_y", begin, end),
          .d_q = rows(out, "d_q", begin, end),
          .d_k = rows(out, "d_k", begin, end),
          .d_v = rows(out, "d_v", begin, end),
          .d_featurizer = view(out, "d_featurizer"),
          .d_skip = view(out, "d_skip"),
          .d_taps = view(out, "d_taps"),
          .d_residues = view(out, "d_residues"),
          .d_log_rates = view(out, "d_log_rates")};
}

/// The rows before a run and their gradients. Rows that no document reaches hold NaN.
struct RowsBefore {
  Tensor halo, d_halo;
  std::int64_t count = 0;  // of the rows that a document reaches

  RowsBefore(const HyenaBlock& c, const Stream& stream, const Views& in, const PackedRun& run) {
    if (!run.segments().continues_from_left() || c.reach() == 0) return;
    const std::int64_t D = c.channels();
    count = std::min(c.reach(), -run.cu_seqlens[0]);
    for (Tensor* tensor : {&halo, &d_halo}) {
      *tensor = Tensor(stream, view(in, "q").dtype, {c.reach(), 3 * D});
      fill(stream, {.value = std::nan(""), .y = *tensor});
    }
    for (std::int64_t part = 0; part < 3; ++part)
      scale(stream, {.x = rows(in, block_parts[part], run.begin - count, run.begin),
                     .y = nearest(halo).slice_columns(part * D, D)});
  }
  TensorView nearest(TensorView of) const { return of.slice_rows(of.rows() - count, count); }
  void return_gradient(const HyenaBlock& c, const Stream& stream, const Views& out, std::int64_t begin) const {
    if (count == 0) return;
    for (std::int64_t part = 0; part < 3; ++part)
      scale(stream, {.x = nearest(d_halo).slice_columns(part * c.channels(), c.channels()),
                     .accumulate = true,
                     .y = rows(out, std::string("d_") + block_parts[part], begin - count, begin)});
    EXPECT_EQ(norm(values_of(d_halo.view().slice_rows(0, c.reach() - count))), 0)
        << "a gradient of rows that no document reaches";
  }
};

/// A state or an adjoint that passes from run to run: NaN where no document continues.
class Carry {
 public:
  Carry(const HyenaBlock& c, const Stream& stream, const Views& in) : by_scans_(c.carried == Carried::by_scans) {
    if (c.modes == 0) return;
    rates_ = view(in, "log_rates");
    for (Tensor* tensor : {&carry_, &next_}) *tensor = Tensor(stream, rates_.dtype, rates_.shape);
    fill(stream, {.value = std::nan(""), .y = carry_});
  }
  TensorView arriving() const { return carry_; }
  TensorView leaving() const { return by_scans_ ? next_.view() : TensorView(); }
  /// Goes on to the next run; `summarise` writes the run's summary.
  void pass(const Stream& stream, const PackedRun& run, bool continues,
            const std::function<void(TensorView)>& summarise) {
    if (!carry_.present() || run.tokens() == 0) return;
    if (!by_scans_) summarise(next_);
    if (!by_scans_ && run.inside_a_document())
      modal_conv_fold(stream, {.log_rates = rates_, .summary_state = next_, .tokens = run.tokens(), .carry = carry_});
    else if (continues)
      scale(stream, {.x = next_, .y = carry_});
    else
      fill(stream, {.value = std::nan(""), .y = carry_});
  }

 private:
  bool by_scans_;
  TensorView rates_;
  Tensor carry_, next_;
};

/// The pack divided into runs at `cuts`. A run gets earlier rows only through its halo, and its state.
void run(const HyenaBlock& c, const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         const std::vector<std::int64_t>& cuts) {
  const std::vector<PackedRun> runs = runs_of(segments, cuts);
  std::vector<RowsBefore> before;
  std::vector<Tensor> states;
  Carry state(c, stream, in), adjoint(c, stream, in);
  const auto inputs = [&](std::size_t i) {
    HyenaBlockInputs of = arguments(in, runs[i].begin, runs[i].end, runs[i].segments());
    of.halo = before[i].halo;
    return of;
  };
  for (std::size_t i = 0; i < runs.size(); ++i) {
    before.emplace_back(c, stream, in, runs[i]);
    states.push_back(c.modes > 0 ? converted(stream, state.arriving(), state.arriving().dtype) : Tensor());
    hyena_block_forward(stream, {.in = inputs(i),
                                 .state_in = states[i],
                                 .y = rows(out, "y", runs[i].begin, runs[i].end),
                                 .state_out = state.leaving()});
    state.pass(stream, runs[i], runs[i].segments().continues_to_right(),
               [&](TensorView summary) { hyena_block_summary(stream, {.in = inputs(i), .state = summary}); });
  }
  for (std::size_t i = runs.size(); i-- > 0;) {
    HyenaBlockBackward args = gradients(in, out, runs[i].begin, runs[i].end);
    args.in = inputs(i);
    args.state_in = states[i];
    args.adjoint_in = adjoint.arriving();
    args.d_halo = before[i].d_halo;
    args.adjoint_out = adjoint.leaving();
    hyena_block_backward(stream, args);
    adjoint.pass(stream, runs[i], runs[i].segments().continues_from_left(), [&](TensorView summary) {
      hyena_block_adjoint_summary(stream, {.in = inputs(i), .d_y = args.d_y, .adjoint = summary});
    });
  }
  for (std::size_t i = 0; i < runs.size(); ++i) before[i].return_gradient(c, stream, out, runs[i].begin);
}

}  // namespace

PackedCase packed(const HyenaBlock& c) {
  const std::int64_t D = c.channels(), T = c.cu_seqlens.back();
  PackedCase result{.name = c.name,
                    .cu_seqlens = c.cu_seqlens,
                    .inputs = {{"d_y", {T, D}}, {"q", {T, D}}, {"k", {T, D}}, {"v", {T, D}}},
                    .linear_in = "v",
                    .run = std::bind_front(run, c),
                    .reference = std::bind_front(reference, c)};
  const auto parameter = [&](const char* name, Shape shape, bool accumulator, double low, double high) {
    result.inputs.push_back(
        {.name = name, .shape = shape, .tokenwise = false, .accumulator = accumulator, .low = low, .high = high});
  };
  parameter("featurizer", {3 * D, c.featurizer}, false, -1, 1);
  if (c.taps > 0) parameter("taps", {c.groups, c.taps}, false, -1, 1);
  if (c.modes > 0) parameter("residues", {D, c.modes}, true, -1, 1);
  if (c.modes > 0) parameter("log_rates", {D, c.modes}, true, -4, 1);
  if (c.skip) parameter("skip", {D}, false, -1, 1);
  return result;
}

}  // namespace causeway::test
