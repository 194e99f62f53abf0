#include "tests/src/op/op_references.hpp"

#include <array>
#include <cmath>

#include "kernels/core/random.hpp"

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
  Values out = {{"y", std::vector<double>(x.size())},
                {"d_x", std::vector<double>(x.size())},
                {"d_weight", std::vector<double>(weight.size())}};
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
  const auto &u = at("u"), &delta = at("delta"), &A = at("A"), &B = at("B"), &C = at("C"), &skip = at("D"),
             &d_y = at("d_y");
  const bool gated = c.inputs.contains("z"), biased = c.inputs.contains("delta_bias"),
             softplus = c.attributes.at("delta_softplus") == "1";
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
          h[t * N + n] = (t > begin ? std::exp(step[t] * A[d * N + n]) * h[(t - 1) * N + n] : 0) +
                         step[t] * u[t * D + d] * B[t * N + n];
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
          g[n] *= decay;  // to the previous token
        }
        out["d_u"][t * D + d] = du;
        out["d_D"][d] += ds * u[t * D + d];
        out["d_delta"][t * D + d] = d_step * (softplus && raw[t] <= 20 ? sigmoid(raw[t]) : 1);
        if (biased) out["d_delta_bias"][d] += out["d_delta"][t * D + d];
      }
    });
  return out;
}

/// y = q ⊙ (h∗x + skip⊙x), x = k⊙v, with the filter h[d·length + lag]; absent q and k are 1. The gradient of h goes to
/// `d_h`.
Values gated_conv(const ReferenceCase& c, const std::string& v_name, std::int64_t length, const std::vector<double>& h,
                  std::vector<double>& d_h) {
  const std::int64_t D = c.D;
  const bool gated = c.inputs.contains("q"), skips = c.inputs.contains("skip");
  const auto &v = c.inputs.at(v_name), &d_y = c.inputs.at("d_y");
  const std::vector<double> ones(v.size(), 1.0);
  const std::vector<double>&q = gated ? c.inputs.at("q") : ones, &k = gated ? c.inputs.at("k") : ones;
  Values out;
  std::vector<double> d_x(v.size()), d_skip(static_cast<std::size_t>(D));
  out["y"].resize(v.size());
  for (const char* name : {"d_q", "d_k"})
    if (gated) out[name].resize(v.size());
  d_h.assign(h.size(), 0);
  const auto x = [&](std::int64_t i) { return k[i] * v[i]; };
  each_document(c, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        const std::int64_t i = t * D + d;
        const double skip = skips ? c.inputs.at("skip")[d] : 0, dc = d_y[i] * q[i];
        double sum = skip * x(i);
        for (std::int64_t j = 0; j < length && t - j >= begin; ++j) {
          sum += h[d * length + j] * x(i - j * D);
          d_x[i - j * D] += h[d * length + j] * dc;
          d_h[d * length + j] += dc * x(i - j * D);
        }
        d_x[i] += skip * dc;
        d_skip[d] += dc * x(i);
        out["y"][i] = q[i] * sum;
        if (gated) out["d_q"][i] = d_y[i] * sum;
      }
  });
  out["d_" + v_name] = d_x;
  for (std::size_t i = 0; gated && i < d_x.size(); ++i) {
    out["d_k"][i] = d_x[i] * v[i];
    out["d_v"][i] = d_x[i] * k[i];
  }
  if (skips) out["d_skip"] = d_skip;
  return out;
}

/// taps[g, j], shared by the channels of a group.
Values grouped_conv(const ReferenceCase& c, const std::string& v_name) {
  const std::int64_t groups = c.shapes.at("taps")[0], wide = c.D / groups;
  std::vector<double> h, d_h;
  for (std::int64_t d = 0; d < c.D; ++d)
    for (std::int64_t j = 0; j < c.N; ++j) h.push_back(c.inputs.at("taps")[d / wide * c.N + j]);
  Values out = gated_conv(c, v_name, c.N, h, d_h);
  out["d_taps"].resize(static_cast<std::size_t>(groups * c.N));
  for (std::int64_t d = 0; d < c.D; ++d)
    for (std::int64_t j = 0; j < c.N; ++j) out["d_taps"][d / wide * c.N + j] += d_h[d * c.N + j];
  return out;
}

/// h_t = Σ_m residues exp(-exp(log_rates) t), as long as the pack.
Values hyena_li(const ReferenceCase& c) {
  const std::int64_t M = c.N, T = c.T;
  const auto &residues = c.inputs.at("residues"), &log_rates = c.inputs.at("log_rates");
  std::vector<double> h(static_cast<std::size_t>(c.D * T)), d_h;
  for (std::int64_t i = 0; i < c.D * M; ++i)
    for (std::int64_t t = 0; t < T; ++t)
      h[i / M * T + t] += residues[i] * std::exp(-std::exp(log_rates[i]) * static_cast<double>(t));
  Values out = gated_conv(c, "v", T, h, d_h);
  out["d_residues"].resize(residues.size());
  out["d_log_rates"].resize(residues.size());
  for (std::int64_t i = 0; i < c.D * M; ++i)
    for (std::int64_t t = 0; t < T; ++t) {
      const double rate = std::exp(log_rates[i]), power = std::exp(-rate * static_cast<double>(t));
      out["d_residues"][i] += d_h[i / M * T + t] * power;
      out["d_log_rates"][i] -= d_h[i / M * T + t] * residues[i] * rate * static_cast<double>(t) * power;
    }
  return out;
}

/// Featurizer, gated convolution and both adjoints: the formulas above, one after the other.
Values hyena_block(const ReferenceCase& c) {
  const std::int64_t W = c.shapes.at("featurizer")[1];
  ReferenceCase conv{
      .T = c.T, .D = 3 * c.D, .N = W, .cu_seqlens = c.cu_seqlens, .attributes = {{"activation", "none"}}};
  const auto columns = [&](std::vector<double>& wide, std::size_t part, std::vector<double>& narrow, bool gather) {
    for (std::int64_t t = 0; t < c.T; ++t)
      for (std::int64_t d = 0; d < c.D; ++d) {
        double& there = wide[(t * 3 + static_cast<std::int64_t>(part)) * c.D + d];
        gather ? there = narrow[t * c.D + d] : narrow[t * c.D + d] = there;
      }
  };
  const std::array<std::string, 3> parts{"q", "k", "v"};
  ReferenceCase mixer = c;
  std::vector<double>& x = conv.inputs["x"];
  x.resize(static_cast<std::size_t>(c.T * 3 * c.D));
  for (std::size_t part = 0; part < 3; ++part) columns(x, part, mixer.inputs.at(parts[part]), true);
  conv.inputs["weight"] = c.inputs.at("featurizer");
  conv.inputs["d_y"].resize(x.size());
  std::vector<double> features = causal_conv(conv).at("y");
  for (std::size_t part = 0; part < 3; ++part) columns(features, part, mixer.inputs.at(parts[part]), false);
  Values out = c.inputs.contains("taps") ? grouped_conv(mixer, "v") : hyena_li(mixer);
  for (std::size_t part = 0; part < 3; ++part) columns(conv.inputs.at("d_y"), part, out.at("d_" + parts[part]), true);
  Values back = causal_conv(conv);
  for (std::size_t part = 0; part < 3; ++part) columns(back.at("d_x"), part, out.at("d_" + parts[part]), false);
  out["d_featurizer"] = back.at("d_weight");
  return out;
}

/// A case of a convolution with taps[3, length] of 6 channels.
ReferenceCase grouped_case(std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional, std::int64_t length,
                           std::vector<std::string> tokenwise) {
  ReferenceCase c{
      .T = T, .D = 6, .N = length, .cu_seqlens = std::move(cu_seqlens), .attributes = {}, .inputs = {}, .shapes = {}};
  for (const std::string& name : tokenwise) add(c, name, {T, c.D});
  add(c, "taps", {3, length});
  if (optional) add(c, "skip", {c.D});
  return c;
}

/// Softmax attention, for each query over the keys of its document up to itself; D heads of N channels.
Values attention(const ReferenceCase& c) {
  const std::int64_t H = c.D, E = c.N;
  const double scaling = c.attributes.contains("rope_scaling") ? std::stod(c.attributes.at("rope_scaling")) : 1;
  const double base = std::stod(c.attributes.at("rope_base")), scale = 1 / std::sqrt(static_cast<double>(E));
  const auto &v = c.inputs.at("v"), &d_y = c.inputs.at("d_y");
  std::vector<double> zeros(v.size());
  Values out = {{"y", zeros}, {"d_q", zeros}, {"d_k", zeros}, {"d_v", zeros}};
  const auto turned = [&](std::vector<double> x, double sense) {
    each_document(c, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t)
        for (std::int64_t h = 0; h < H; ++h)
          for (std::int64_t i = 0; base > 0 && i < E / 2; ++i) {
            const double angle = sense * static_cast<double>(t - begin) / scaling *
                                 std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(E));
            double &first = x[(t * H + h) * E + i], &second = x[(t * H + h) * E + i + E / 2];
            const double a = first, b = second;
            first = a * std::cos(angle) - b * std::sin(angle);
            second = b * std::cos(angle) + a * std::sin(angle);
          }
    });
    return x;
  };
  const std::vector<double> q = turned(c.inputs.at("q"), 1), k = turned(c.inputs.at("k"), 1);
  each_document(c, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t h = 0; h < H; ++h) {
        const auto dot = [&](const std::vector<double>& a, std::int64_t i, const std::vector<double>& b,
                             std::int64_t j) {
          double sum = 0;
          for (std::int64_t e = 0; e < E; ++e) sum += a[(i * H + h) * E + e] * b[(j * H + h) * E + e];
          return sum;
        };
        std::vector<double> weights;
        double sum = 0, delta = 0;
        for (std::int64_t j = begin; j <= t; ++j) sum += weights.emplace_back(std::exp(scale * dot(q, t, k, j)));
        for (std::int64_t j = begin; j <= t; ++j) delta += weights[j - begin] / sum * dot(d_y, t, v, j);
        for (std::int64_t j = begin; j <= t; ++j) {
          const double p = weights[j - begin] / sum, ds = scale * p * (dot(d_y, t, v, j) - delta);
          for (std::int64_t e = 0; e < E; ++e) {
            const std::int64_t query = (t * H + h) * E + e, key = (j * H + h) * E + e;
            out["y"][query] += p * v[key];
            out["d_v"][key] += p * d_y[query];
            out["d_q"][query] += ds * k[key];
            out["d_k"][key] += ds * q[query];
          }
        }
      }
  });
  for (const char* name : {"d_q", "d_k"}) out[name] = turned(std::move(out[name]), -1);
  return out;
}

}  // namespace

const std::map<std::string, Reference>& op_references() {
  static const std::map<std::string, Reference> table = {
      {"causal_conv",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T,
                              .D = 5,
                              .N = 4,
                              .cu_seqlens = std::move(cu_seqlens),
                              .attributes = {{"activation", optional ? "silu" : "none"}}};
              add(c, "x", {T, c.D});
              add(c, "weight", {c.D, c.N});
              if (optional) add(c, "bias", {c.D});
              add(c, "d_y", {T, c.D});
              return c;
            },
        .expect = causal_conv}},
      {"hyena_se",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              return grouped_case(T, std::move(cu_seqlens), optional, 7, {"q", "k", "v", "d_y"});
            },
        .expect = [](const ReferenceCase& c) { return grouped_conv(c, "v"); }}},
      {"hyena_mr",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              return grouped_case(T, std::move(cu_seqlens), optional, 31, {"q", "k", "v", "d_y"});
            },
        .expect = [](const ReferenceCase& c) { return grouped_conv(c, "v"); }}},
      {"long_conv",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              return grouped_case(T, std::move(cu_seqlens), optional, T + 3, {"x", "d_y"});
            },
        .expect = [](const ReferenceCase& c) { return grouped_conv(c, "x"); }}},
      {"hyena_li",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T,
                              .D = 5,
                              .N = 4,
                              .cu_seqlens = std::move(cu_seqlens),
                              .attributes = {},
                              .inputs = {},
                              .shapes = {}};
              for (const char* name : {"q", "k", "v", "d_y"}) add(c, name, {T, c.D});
              add(c, "residues", {c.D, c.N});
              add(c, "log_rates", {c.D, c.N}, -5, 0);
              if (optional) add(c, "skip", {c.D});
              return c;
            },
        .expect = hyena_li}},
      {"hyena_block",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              const std::vector<std::string> rows{"q", "k", "v", "d_y"};
              ReferenceCase c = grouped_case(T, std::move(cu_seqlens), optional, 9, rows);
              add(c, "featurizer", {3 * c.D, 3});
              if (optional) return c;
              c.inputs.erase("taps");
              c.N = 4;
              add(c, "residues", {c.D, c.N});
              add(c, "log_rates", {c.D, c.N}, -5, 0);
              return c;
            },
        .expect = hyena_block}},
      {"selective_scan",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T,
                              .D = 5,
                              .N = 3,
                              .cu_seqlens = std::move(cu_seqlens),
                              .attributes = {{"delta_softplus", optional ? "1" : "0"}}};
              for (const char* name : {"u", "d_y"}) add(c, name, {T, c.D});
              // Without softplus delta is the step size; it must not be negative, so that the state decays.
              add(c, "delta", {T, c.D}, optional ? -2 : 0.1, optional ? 2 : 1);
              for (const char* name : {"B", "C"}) add(c, name, {T, c.N});
              add(c, "A", {c.D, c.N}, -2, -0.1);
              add(c, "D", {c.D});
              if (optional) add(c, "z", {T, c.D});
              if (optional) add(c, "delta_bias", {c.D});
              return c;
            },
        .expect = selective_scan}},
      {"attention",
       {.make =
            [](std::int64_t T, std::vector<std::int64_t> cu_seqlens, bool optional) {
              ReferenceCase c{.T = T,
                              .D = 3,
                              .N = 4,
                              .cu_seqlens = std::move(cu_seqlens),
                              .attributes = {{"rope_base", optional ? "10000" : "0"}}};
              if (optional) c.attributes["rope_scaling"] = "3";
              for (const char* name : {"q", "k", "v", "d_y"}) add(c, name, {T, c.D, c.N});
              return c;
            },
        .expect = attention}},
  };
  return table;
}

}  // namespace causeway::test
