#include "tests/src/op_references.hpp"

#include <cmath>

#include "kernels/random.hpp"

namespace causeway::test {
namespace {

std::vector<double> random_values(std::size_t count, std::uint64_t stream, double low, double high) {
  std::vector<double> values(count);
  const RandomStream random(7, stream);
  for (std::size_t i = 0; i < count; ++i) values[i] = low + (high - low) * random.uniform(i);
  return values;
}

void add(ReferenceCase& c, const std::string& name, std::vector<std::int64_t> shape, double low = -1, double high = 1) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  c.inputs[name] = random_values(count, c.inputs.size(), low, high);
  c.shapes[name] = std::move(shape);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Calls visit(begin, end) for every document.
template <class Visit>
void each_document(const ReferenceCase& c, Visit&& visit) {
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s) visit(c.cu_seqlens[s], c.cu_seqlens[s + 1]);
}

Values causal_conv(const ReferenceCase& c) {
  const std::int64_t D = c.D, W = c.N;
  const auto &x = c.inputs.at("x"), &weight = c.inputs.at("weight"), &d_y = c.inputs.at("d_y");
  const bool with_bias = c.inputs.contains("bias"), silu = c.attributes.at("activation") == "silu";
  Values out = {{"y", std::vector<double>(x.size())}, {"d_x", std::vector<double>(x.size())}, {"d_weight", std::vector<double>(weight.size())}};
  if (with_bias) out["d_bias"] = std::vector<double>(static_cast<std::size_t>(D));
  each_document(c, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        double a = with_bias ? c.inputs.at("bias")[d] : 0;
        for (std::int64_t j = 0; j < W && t - j >= begin; ++j) a += weight[d * W + W - 1 - j] * x[(t - j) * D + d];
        const double s = sigmoid(a);
        out["y"][t * D + d] = silu ? a * s : a;
        const double g = d_y[t * D + d] * (silu ? s * (1 + a * (1 - s)) : 1);
        for (std::int64_t j = 0; j < W && t - j >= begin; ++j) {
          out["d_x"][(t - j) * D + d] += weight[d * W + W - 1 - j] * g;
          out["d_weight"][d * W + W - 1 - j] += g * x[(t - j) * D + d];
        }
        if (with_bias) out["d_bias"][d] += g;
      }
  });
  return out;
}

Values selective_scan(const ReferenceCase& c) {
  const std::int64_t T = c.T, D = c.D, N = c.N;
  const auto at = [&](const char* name) -> const std::vector<double>& { return c.inputs.at(name); };
  const auto &u = at("u"), &delta = at("delta"), &A = at("A"), &B = at("B"), &C = at("C"), &skip = at("D"), &d_y = at("d_y");
  const bool gated = c.inputs.contains("z"), biased = c.inputs.contains("delta_bias"), softplus = c.attributes.at("delta_softplus") == "1";
  Values out;
  out["y"].resize(u.size());
  for (const auto& [name, values] : c.inputs)
    if (name != "d_y") out["d_" + name].resize(values.size());
  std::vector<double> h(static_cast<std::size_t>(T * N)), raw(static_cast<std::size_t>(T)), step(raw);
  for (std::int64_t d = 0; d < D; ++d)
    each_document(c, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        raw[t] = delta[t * D + d] + (biased ? at("delta_bias")[d] : 0);
        step[t] = softplus && raw[t] <= 20 ? std::log1p(std::exp(raw[t])) : raw[t];
        double s = skip[d] * u[t * D + d];
        for (std::int64_t n = 0; n < N; ++n) {
          h[t * N + n] = (t > begin ? std::exp(step[t] * A[d * N + n]) * h[(t - 1) * N + n] : 0) + step[t] * u[t * D + d] * B[t * N + n];
          s += C[t * N + n] * h[t * N + n];
        }
        const double z = gated ? at("z")[t * D + d] : 0, gate = gated ? z * sigmoid(z) : 1;
        out["y"][t * D + d] = s * gate;
        if (gated) out["d_z"][t * D + d] = d_y[t * D + d] * s * sigmoid(z) * (1 + z * (1 - sigmoid(z)));
      }
      std::vector<double> g(static_cast<std::size_t>(N));
      for (std::int64_t t = end - 1; t >= begin; --t) {
        const double z = gated ? at("z")[t * D + d] : 0, ds = d_y[t * D + d] * (gated ? z * sigmoid(z) : 1);
        double d_step = 0, du = skip[d] * ds;
        for (std::int64_t n = 0; n < N; ++n) {
          const double a = A[d * N + n], decay = std::exp(step[t] * a), before = t > begin ? h[(t - 1) * N + n] : 0;
          g[n] += C[t * N + n] * ds;
          du += step[t] * g[n] * B[t * N + n];
          d_step += g[n] * (B[t * N + n] * u[t * D + d] + a * decay * before);
          out["d_B"][t * N + n] += g[n] * step[t] * u[t * D + d];
          out["d_C"][t * N + n] += ds * h[t * N + n];
          out["d_A"][d * N + n] += g[n] * step[t] * decay * before;
          g[n] *= decay;  // what the token before gets
        }
        out["d_u"][t * D + d] = du;
        out["d_D"][d] += ds * u[t * D + d];
        out["d_delta"][t * D + d] = d_step * (softplus && raw[t] <= 20 ? sigmoid(raw[t]) : 1);
        if (biased) out["d_delta_bias"][d] += out["d_delta"][t * D + d];
      }
    });
  return out;
}

}  // namespace

const std::map<std::string, Reference>& op_references() {
  static const std::map<std::string, Reference> table = {
      {"causal_conv",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T, .D = 5, .N = 4, .cu_seqlens = std::move(cu_seqlens), .attributes = {{"activation", optional ? "silu" : "none"}}};
              add(c, "x", {T, c.D});
              add(c, "weight", {c.D, c.N});
              if (optional) add(c, "bias", {c.D});
              add(c, "d_y", {T, c.D});
              return c;
            },
        .expect = causal_conv}},
      {"selective_scan",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T, .D = 5, .N = 3, .cu_seqlens = std::move(cu_seqlens), .attributes = {{"delta_softplus", optional ? "1" : "0"}}};
              for (const char* name : {"u", "d_y"}) add(c, name, {T, c.D});
              // Without softplus the step is taken as it is, and must not be negative for the state to decay.
              add(c, "delta", {T, c.D}, optional ? -2 : 0.1, optional ? 2 : 1);
              for (const char* name : {"B", "C"}) add(c, name, {T, c.N});
              add(c, "A", {c.D, c.N}, -2, -0.1);
              add(c, "D", {c.D});
              if (optional) add(c, "z", {T, c.D});
              if (optional) add(c, "delta_bias", {c.D});
              return c;
            },
        .expect = selective_scan}},
  };
  return table;
}

}  // namespace causeway::test
