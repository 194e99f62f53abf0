#include "tests/support/packed_operator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/activation.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool has_gradient(const PackedInput& input) { return input.name != "d_y"; }
/// The result that has its shape: its gradient, or y for d_y.
std::string result_of(const PackedInput& input) { return has_gradient(input) ? "d_" + input.name : "y"; }

/// The results of `c`, y and the gradients, set to zero.
NamedTensors outputs_of(const PackedCase& c, const Stream& stream, DType dtype) {
  NamedTensors out;
  for (const PackedInput& input : c.inputs) {
    const DType type = input.tokenwise ? dtype : accumulator_of(dtype);
    out.add(result_of(input), Tensor::zeros(stream, type, input.shape));
  }
  return out;
}

void run_views(const PackedCase& c, const Stream& stream, const Views& in, const Views& out,
               const std::vector<std::int64_t>& cuts) {
  c.run(stream, in, out, Segments(c.cu_seqlens), cuts);
}

/// Runs each document as if it were the whole pack.
NamedTensors run_each_document(const PackedCase& c, const Stream& stream, const NamedTensors& in) {
  NamedTensors out = outputs_of(c, stream, in["d_y"].dtype);
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s) {
    const std::int64_t begin = c.cu_seqlens[s], end = c.cu_seqlens[s + 1];
    Views from = in.views(), to = out.views();
    for (const PackedInput& input : c.inputs)
      if (input.tokenwise) {
        from[input.name] = rows(from, input.name, begin, end);
        to[result_of(input)] = rows(to, result_of(input), begin, end);
      }
    c.run(stream, from, to, Segments::one_document(end - begin), {});
  }
  return out;
}

/// How many elements of row t are NaN.
std::int64_t nans(TensorView x, std::int64_t t) {
  const std::vector<double> row = values_of(x.slice_rows(t, 1));
  return std::count_if(row.begin(), row.end(), [](double value) { return std::isnan(value); });
}

}  // namespace

TensorView view(const Views& views, const std::string& name) {
  const auto found = views.find(name);
  return found == views.end() ? TensorView{} : found->second;
}

TensorView rows(const Views& views, const std::string& name, std::int64_t begin, std::int64_t end) {
  const TensorView all = view(views, name);
  return all.present() ? all.slice_rows(begin, end - begin) : all;
}

std::vector<std::int64_t> growing_documents(std::int64_t tokens, std::int64_t slowness) {
  std::vector<std::int64_t> cu_seqlens{0};
  while (cu_seqlens.back() < tokens) cu_seqlens.push_back(cu_seqlens.back() + 1 + cu_seqlens.back() / slowness);
  return cu_seqlens;
}

std::vector<PackedRun> runs_of(const Segments& segments, const std::vector<std::int64_t>& cuts) {
  std::vector<PackedRun> runs;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const std::int64_t begin = i == 0 ? 0 : cuts[i - 1], end = i == cuts.size() ? segments.tokens() : cuts[i];
    runs.push_back({begin, end, segments.slice(begin, end)});
  }
  return runs;
}

Views NamedTensors::views() const {
  Views result;
  for (const auto& [name, tensor] : tensors_) result[name] = tensor.view();
  return result;
}

Values NamedTensors::values() const {
  Values result;
  for (const auto& [name, tensor] : tensors_) result[name] = values_of(tensor);
  return result;
}

NamedTensors inputs_of(const PackedCase& c, const Stream& stream, DType dtype, std::uint64_t seed) {
  NamedTensors in;
  for (const PackedInput& input : c.inputs)
    in.add(input.name, random_tensor(stream, input.accumulator ? accumulator_of(dtype) : dtype, input.shape, seed++,
                                     input.low, input.high));
  return in;
}

NamedTensors run_case(const PackedCase& c, const Stream& stream, const NamedTensors& in,
                      const std::vector<std::int64_t>& cuts) {
  NamedTensors out = outputs_of(c, stream, in["d_y"].dtype);
  run_views(c, stream, in.views(), out.views(), cuts);
  return out;
}

void expect_equal_to_the_formula(const std::vector<PackedCase>& cases, Tolerances limits) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype);
      const Values got = run_case(c, stream, in).values(), want = c.reference(in.values());
      EXPECT_EQ(got.size(), want.size()) << "the formula lacks a gradient";
      for (const auto& [name, expected] : want)
        EXPECT_LE(relative_error(got.at(name), expected), limits.of(dtype)) << name;
    }
}

void expect_gradients_equal_to_finite_differences(const std::vector<PackedCase>& cases, double limit,
                                                  std::int64_t most) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    std::int64_t largest = 0;
    for (const PackedInput& input : c.inputs) largest = std::max(largest, input.shape.size());
    if (c.tokens() == 0 || largest > most) continue;
    SCOPED_TRACE(c.name);
    const NamedTensors in = inputs_of(c, stream, DType::f64), out = run_case(c, stream, in);
    for (const PackedInput& input : c.inputs) {
      if (!has_gradient(input)) continue;
      std::vector<double> numeric;
      with_threads(1, [&] {
        numeric = finite_differences(in[input.name], [&] { return dot(run_case(c, stream, in)["y"], in["d_y"]); });
      });
      EXPECT_LE(relative_error(values_of(out["d_" + input.name]), numeric), limit) << input.name;
    }
  }
}

void expect_backward_is_the_adjoint(const std::vector<PackedCase>& cases, double limit) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    SCOPED_TRACE(c.name);
    const NamedTensors in = inputs_of(c, stream, DType::f64), out = run_case(c, stream, in);
    EXPECT_LE(adjoint_mismatch(values_of(out["y"]), values_of(in["d_y"]), values_of(in[c.linear_in]),
                               values_of(out["d_" + c.linear_in])),
              limit);
  }
}

void expect_packed_equal_to_one_document_at_a_time(const std::vector<PackedCase>& cases, Tolerances limits) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), separate = run_each_document(c, stream, in);
      for (const auto& [name, values] : run_case(c, stream, in).values())
        EXPECT_LE(relative_error(values_of(separate[name]), values), limits.of(dtype)) << name;
    }
}

void expect_packed_equal_to_one_document_at_a_time_bit_for_bit(const std::vector<PackedCase>& cases,
                                                               Tolerances of_sums) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), packed = run_case(c, stream, in),
                         separate = run_each_document(c, stream, in);
      for (const PackedInput& input : c.inputs) {
        const std::string name = result_of(input);
        if (input.tokenwise)
          EXPECT_TRUE(same_bits(separate[name], packed[name])) << name;
        else
          EXPECT_LE(relative_error(separate[name], packed[name]), of_sums.of(dtype)) << name;
      }
    }
}

void expect_cut_anywhere_equal_to_one_run(const std::vector<PackedCase>& cases, double limit,
                                          const std::vector<std::int64_t>& apart) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    if (c.tokens() > 160) continue;
    const NamedTensors in = inputs_of(c, stream, DType::f64);
    with_threads(1, [&] {
      const Values whole = run_case(c, stream, in).values();
      for (std::int64_t cut = 0; cut <= c.tokens(); ++cut)
        for (const std::int64_t distance : apart) {
          SCOPED_TRACE(fmt::format("{} cut at {} and {} tokens later", c.name, cut, distance));
          const NamedTensors parts = run_case(c, stream, in, {cut, std::min(cut + distance, c.tokens())});
          for (const auto& [name, values] : whole)
            EXPECT_LE(relative_error(values_of(parts[name]), values), limit) << name;
        }
    });
  }
}

void expect_results_are_written_and_parameter_gradients_added_to(const std::vector<PackedCase>& cases) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), once = run_case(c, stream, in);
      NamedTensors out;
      for (const PackedInput& input : c.inputs) {
        const TensorView like = once[result_of(input)];
        out.add(result_of(input), random_tensor(stream, like.dtype, like.shape, 100 + input.name.size()));
        if (input.tokenwise) fill(stream, {.value = std::nan(""), .y = out[result_of(input)]});
      }
      const Values before = out.values();
      for (int repeat = 0; repeat < 2; ++repeat) run_views(c, stream, in.views(), out.views(), {});
      for (const PackedInput& input : c.inputs) {
        const std::string name = result_of(input);
        if (input.tokenwise) {
          EXPECT_TRUE(same_bits(out[name], once[name])) << name;
          continue;
        }
        std::vector<double> want = values_of(once[name]);
        for (std::size_t i = 0; i < want.size(); ++i) want[i] = before.at(name)[i] + 2 * want[i];
        EXPECT_LE(relative_error(values_of(out[name]), want), 8 * rounding_of(out[name].dtype)) << name;
      }
    }
}

void expect_a_token_depends_only_on_earlier_tokens(const PackedCase& c, std::int64_t reach) {
  const Stream stream;
  ASSERT_EQ(c.cu_seqlens.size(), 2u);
  const std::int64_t bad = c.tokens() / 2;
  for (const bool backwards : {false, true}) {
    const NamedTensors in = inputs_of(c, stream, DType::f64);
    for (const PackedInput& input : c.inputs)
      if (input.tokenwise && has_gradient(input) != backwards)
        fill(stream, {.value = std::nan(""), .y = in[input.name].slice_rows(bad, 1)});
    const NamedTensors out = run_case(c, stream, in);
    for (const PackedInput& input : c.inputs) {
      const TensorView x = out[result_of(input)];
      if (!input.tokenwise || has_gradient(input) != backwards) continue;
      const bool everywhere = !backwards || input.name == c.linear_in;
      for (std::int64_t t = 0; t < c.tokens(); ++t) {
        const std::int64_t distance = backwards ? bad - t : t - bad;
        const bool reached = distance >= 0 && distance < reach;
        if (reached && !everywhere) continue;
        EXPECT_EQ(nans(x, t), reached ? x.columns() : 0) << result_of(input) << " of token " << t << " of " << c.name;
      }
    }
  }
}

void expect_non_finite_values_stay_in_their_document(const PackedCase& c,
                                                     const std::vector<std::vector<std::int64_t>>& cuts) {
  const Stream stream;
  ASSERT_EQ(c.cu_seqlens.size(), 4u);
  const std::int64_t begin = c.cu_seqlens[1], end = c.cu_seqlens[2];
  for (const DType dtype : floating_types)
    for (const double poison : {std::nan(""), infinity, -infinity})
      for (const PackedInput& input : c.inputs)
        for (const std::vector<std::int64_t>& cut : cuts) {
          if (!input.tokenwise) continue;
          SCOPED_TRACE(fmt::format("{}: {} in {} of {}, cut at {}", c.name, poison, input.name, name_of(dtype),
                                   cut.empty() ? 0 : cut[0]));
          const NamedTensors in = inputs_of(c, stream, dtype), clean = run_case(c, stream, in, cut);
          std::vector<double> poisoned = values_of(in[input.name]);
          const std::int64_t columns = input.shape.row_size();
          for (const std::int64_t t : {begin, (begin + end) / 2, end - 1})
            for (std::int64_t d = 0; d < columns; ++d) poisoned[static_cast<std::size_t>(t * columns + d)] = poison;
          assign(in[input.name], poisoned);
          const NamedTensors out = run_case(c, stream, in, cut);
          for (const PackedInput& other : c.inputs) {
            if (!other.tokenwise) continue;
            const std::string name = result_of(other);
            for (const auto& [from, to] : {std::pair{std::int64_t{0}, begin}, std::pair{end, c.tokens()}})
              EXPECT_TRUE(same_bits(out[name].slice_rows(from, to - from), clean[name].slice_rows(from, to - from)))
                  << name;
          }
        }
}

void expect_same_bits_on_any_number_of_threads(const PackedCase& c, const std::vector<std::int64_t>& cuts) {
  const Stream stream;
  for (const DType dtype : floating_types) {
    const NamedTensors in = inputs_of(c, stream, dtype);
    NamedTensors one, other;
    with_threads(1, [&] { one = run_case(c, stream, in, cuts); });
    for (const int threads : {2, 3, 7}) {
      with_threads(threads, [&] { other = run_case(c, stream, in, cuts); });
      for (const auto& [name, tensor] : one.views())
        EXPECT_TRUE(same_bits(tensor, other[name]))
            << c.name << ": " << name << " in " << name_of(dtype) << " on " << threads << " threads";
    }
  }
}

void expect_row_strides_are_free(const std::vector<PackedCase>& cases) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), dense = run_case(c, stream, in);
      const auto widened = [&](const Views& views, std::map<std::string, Padded>& owners) {
        Views wide;
        for (const auto& [name, x] : views) {
          if (x.shape.rank() < 2) {
            wide[name] = x;
            continue;
          }
          const Padded& owner =
              owners.emplace(name, Padded(stream, view_of(x.data, x.dtype, {x.rows(), x.columns()}))).first->second;
          wide[name] = owner.view();
          wide[name].shape = x.shape;
        }
        return wide;
      };
      const NamedTensors out = outputs_of(c, stream, dtype);
      std::map<std::string, Padded> wide_in, wide_out;
      const Views to = widened(out.views(), wide_out);
      run_views(c, stream, widened(in.views(), wide_in), to, {});
      for (const auto& [name, x] : to) EXPECT_TRUE(same_bits(x, dense[name])) << name;
      for (const auto& [name, x] : wide_out) EXPECT_TRUE(x.padding_untouched()) << name;
    }
}

}  // namespace causeway::test
