#include "tests/support/gated_convolution.hpp"

#include <algorithm>

namespace causeway::test {
namespace {

Values reference(const GatedConvolution& c, const Values& in) {
  const std::int64_t D = c.channels(), T = c.cu_seqlens.back();
  const auto size = static_cast<std::size_t>(T * D);
  const auto at = [&](const char* name, std::int64_t i, double otherwise) {
    return in.contains(name) ? in.at(name)[static_cast<std::size_t>(i)] : otherwise;
  };
  Values out;
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) out[name].resize(size);
  out["d_taps"].resize(static_cast<std::size_t>(c.groups * c.length));
  out["d_skip"].resize(static_cast<std::size_t>(D));
  std::vector<double> d_kv(size);
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        const std::int64_t i = t * D + d, tap = d / c.group_size * c.length;
        const auto kv = [&](std::int64_t lag) { return at("k", i - lag * D, 1) * at("v", i - lag * D, 0); };
        const double skip = at("skip", d, 0), dc = at("d_y", i, 0) * at("q", i, 1);
        double sum = skip * kv(0);
        d_kv[static_cast<std::size_t>(i)] += skip * dc;
        for (std::int64_t j = 0; j < std::min(c.length, t - c.cu_seqlens[s] + 1); ++j) {
          sum += at("taps", tap + j, 0) * kv(j);
          d_kv[static_cast<std::size_t>(i - j * D)] += at("taps", tap + j, 0) * dc;
          out["d_taps"][static_cast<std::size_t>(tap + j)] += dc * kv(j);
        }
        out["d_skip"][static_cast<std::size_t>(d)] += dc * kv(0);
        out["y"][static_cast<std::size_t>(i)] = at("q", i, 1) * sum;
        out["d_q"][static_cast<std::size_t>(i)] = at("d_y", i, 0) * sum;
      }
  for (std::int64_t i = 0; i < T * D; ++i) {
    out["d_k"][static_cast<std::size_t>(i)] = d_kv[static_cast<std::size_t>(i)] * at("v", i, 0);
    out["d_v"][static_cast<std::size_t>(i)] = d_kv[static_cast<std::size_t>(i)] * at("k", i, 1);
  }
  for (const char* name : {"q", "k", "skip"})
    if (!in.contains(name)) out.erase(std::string("d_") + name);
  return out;
}

}  // namespace

GatedConvInputs gated_inputs(const Views& in, std::int64_t begin, std::int64_t end, const SegmentsView& segments) {
  return {.q = rows(in, "q", begin, end),
          .k = rows(in, "k", begin, end),
          .v = rows(in, "v", begin, end),
          .skip = view(in, "skip"),
          .segments = segments};
}

GatedConvGradients gated_gradients(const Views& in, const Views& out, std::int64_t begin, std::int64_t end) {
  return {.d_y = rows(in, "d_y", begin, end),
          .d_q = rows(out, "d_q", begin, end),
          .d_k = rows(out, "d_k", begin, end),
          .d_v = rows(out, "d_v", begin, end),
          .d_skip = view(out, "d_skip")};
}

PackedCase packed(const GatedConvolution& c) {
  const std::int64_t D = c.channels(), T = c.cu_seqlens.back();
  PackedCase result{.name = c.name,
                    .cu_seqlens = c.cu_seqlens,
                    .inputs = {{"d_y", {T, D}}, {"v", {T, D}}},
                    .linear_in = "v",
                    .run = {},
                    .reference = {}};
  if (c.gates) result.inputs.insert(result.inputs.end(), {{"q", {T, D}}, {"k", {T, D}}});
  result.inputs.push_back({.name = "taps", .shape = {c.groups, c.length}, .tokenwise = false});
  if (c.skip) result.inputs.push_back({.name = "skip", .shape = {D}, .tokenwise = false});
  result.reference = [c](const Values& in) { return reference(c, in); };
  return result;
}

}  // namespace causeway::test
