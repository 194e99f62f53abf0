#include "tests/support/packed_operator.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr DType dtypes[] = {DType::f64, DType::f32, DType::bf16};
constexpr double infinity = std::numeric_limits<double>::infinity();

bool has_gradient(const PackedInput& input) { return input.name != "d_y"; }

/// What `c` writes: y and the gradients, zero.
NamedTensors outputs_of(const PackedCase& c, const Stream& stream, DType dtype) {
  NamedTensors out;
  for (const PackedInput& input : c.inputs) {
    const DType type = input.tokenwise ? dtype : accumulator_of(dtype);
    out.add(has_gradient(input) ? "d_" + input.name : "y", Tensor::zeros(stream, type, input.shape));
  }
  return out;
}

void run_views(const PackedCase& c, const Stream& stream, const Views& in, const Views& out, const std::vector<std::int64_t>& cuts) {
  c.run(stream, in, out, Segments(c.cu_seqlens), cuts);
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
    in.add(input.name, random_tensor(stream, input.accumulator ? accumulator_of(dtype) : dtype, input.shape, seed++, input.low, input.high));
  return in;
}

NamedTensors run_case(const PackedCase& c, const Stream& stream, const NamedTensors& in, const std::vector<std::int64_t>& cuts) {
  NamedTensors out = outputs_of(c, stream, in["d_y"].dtype);
  run_views(c, stream, in.views(), out.views(), cuts);
  return out;
}

void expect_equal_to_the_formula(const std::vector<PackedCase>& cases, Tolerances limits) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : dtypes) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype);
      const Values got = run_case(c, stream, in).values(), want = c.reference(in.values());
      for (const auto& [name, expected] : want) EXPECT_LE(relative_error(got.at(name), expected), limits.of(dtype)) << name;
    }
}

void expect_gradients_equal_to_finite_differences(const std::vector<PackedCase>& cases, double limit) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    std::int64_t most = 0;
    for (const PackedInput& input : c.inputs) most = std::max(most, input.shape.size());
    if (c.tokens() == 0 || most > 260) continue;
    SCOPED_TRACE(c.name);
    const NamedTensors in = inputs_of(c, stream, DType::f64), out = run_case(c, stream, in);
    for (const PackedInput& input : c.inputs) {
      if (!has_gradient(input)) continue;
      std::vector<double> numeric;
      with_threads(1, [&] { numeric = finite_differences(in[input.name], [&] { return dot(run_case(c, stream, in)["y"], in["d_y"]); }); });
      EXPECT_LE(relative_error(values_of(out["d_" + input.name]), numeric), limit) << input.name;
    }
  }
}

void expect_backward_is_the_adjoint(const std::vector<PackedCase>& cases, double limit) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    SCOPED_TRACE(c.name);
    const NamedTensors in = inputs_of(c, stream, DType::f64), out = run_case(c, stream, in);
    EXPECT_LE(adjoint_mismatch(values_of(out["y"]), values_of(in["d_y"]), values_of(in[c.linear_in]), values_of(out["d_" + c.linear_in])), limit);
  }
}

void expect_packed_equal_to_one_document_at_a_time(const std::vector<PackedCase>& cases, Tolerances limits) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : dtypes) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), packed = run_case(c, stream, in);
      NamedTensors alone = outputs_of(c, stream, dtype);
      for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s) {
        const std::int64_t begin = c.cu_seqlens[s], end = c.cu_seqlens[s + 1];
        Views of_document = in.views(), to = alone.views();
        for (const PackedInput& input : c.inputs)
          if (input.tokenwise) {
            of_document[input.name] = rows(of_document, input.name, begin, end);
            const std::string result = has_gradient(input) ? "d_" + input.name : "y";
            to[result] = rows(to, result, begin, end);
          }
        c.run(stream, of_document, to, Segments::one_document(end - begin), {});
      }
      for (const auto& [name, values] : packed.values()) EXPECT_LE(relative_error(values_of(alone[name]), values), limits.of(dtype)) << name;
    }
}

void expect_cut_anywhere_equal_to_one_run(const std::vector<PackedCase>& cases, double limit) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    if (c.tokens() > 160) continue;
    const NamedTensors in = inputs_of(c, stream, DType::f64);
    with_threads(1, [&] {
      const Values whole = run_case(c, stream, in).values();
      for (std::int64_t cut = 0; cut <= c.tokens(); ++cut)
        for (const std::int64_t apart : {0, 1, 5}) {
          SCOPED_TRACE(fmt::format("{} cut at {} and {} on", c.name, cut, apart));
          const NamedTensors parts = run_case(c, stream, in, {cut, std::min(cut + apart, c.tokens())});
          for (const auto& [name, values] : whole) EXPECT_LE(relative_error(values_of(parts[name]), values), limit) << name;
        }
    });
  }
}

void expect_non_finite_values_stay_in_their_document(const PackedCase& c, const std::vector<std::vector<std::int64_t>>& cuts) {
  const Stream stream;
  ASSERT_EQ(c.cu_seqlens.size(), 4u);
  const std::int64_t begin = c.cu_seqlens[1], end = c.cu_seqlens[2];
  for (const DType dtype : dtypes)
    for (const double poison : {std::nan(""), infinity, -infinity})
      for (const PackedInput& input : c.inputs)
        for (const std::vector<std::int64_t>& cut : cuts) {
          if (!input.tokenwise) continue;
          SCOPED_TRACE(fmt::format("{}: {} in {} of {}, cut at {}", c.name, poison, input.name, name_of(dtype), cut.empty() ? 0 : cut[0]));
          const NamedTensors in = inputs_of(c, stream, dtype), clean = run_case(c, stream, in, cut);
          std::vector<double> poisoned = values_of(in[input.name]);
          const std::int64_t columns = input.shape.row_size();
          for (const std::int64_t t : {begin, (begin + end) / 2, end - 1})
            for (std::int64_t d = 0; d < columns; ++d) poisoned[static_cast<std::size_t>(t * columns + d)] = poison;
          assign(in[input.name], poisoned);
          const NamedTensors out = run_case(c, stream, in, cut);
          for (const PackedInput& other : c.inputs) {
            if (!other.tokenwise) continue;
            const std::string name = has_gradient(other) ? "d_" + other.name : "y";
            for (const auto& [from, to] : {std::pair{std::int64_t{0}, begin}, std::pair{end, c.tokens()}})
              EXPECT_TRUE(same_bits(out[name].slice_rows(from, to - from), clean[name].slice_rows(from, to - from))) << name;
          }
        }
}

void expect_same_bits_on_any_number_of_threads(const PackedCase& c) {
  const Stream stream;
  for (const DType dtype : dtypes) {
    const NamedTensors in = inputs_of(c, stream, dtype);
    NamedTensors one, other;
    with_threads(1, [&] { one = run_case(c, stream, in); });
    for (const int threads : {2, 3, 7}) {
      with_threads(threads, [&] { other = run_case(c, stream, in); });
      for (const auto& [name, tensor] : one.views())
        EXPECT_TRUE(same_bits(tensor, other[name])) << c.name << ": " << name << " in " << name_of(dtype) << " on " << threads << " threads";
    }
  }
}

void expect_row_strides_are_free(const std::vector<PackedCase>& cases) {
  const Stream stream;
  for (const PackedCase& c : cases)
    for (const DType dtype : dtypes) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const NamedTensors in = inputs_of(c, stream, dtype), dense = run_case(c, stream, in);
      const auto widened = [&](const Views& views, std::map<std::string, Padded>& owners) {
        Views wide;
        for (const auto& [name, x] : views) {
          if (x.shape.rank() < 2) {
            wide[name] = x;
            continue;
          }
          const Padded& owner = owners.emplace(name, Padded(stream, view_of(x.data, x.dtype, {x.rows(), x.columns()}))).first->second;
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
