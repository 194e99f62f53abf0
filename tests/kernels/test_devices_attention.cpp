#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

/// A run of queries and a run of keys of the same pack.
struct QueriesAndKeys {
  std::int64_t heads, width;
  std::int64_t queries, keys, key_offset;
  std::vector<std::int64_t> cu_seqlens;  // of the queries' run
  std::int64_t spare = 0;                // additional columns of the matrices of which the tensors are columns
  bool accumulate = false, wide_result = false;
  bool written = false, narrow_gradients = false;  // gradients are not added to; they are in q's type
  double spread = 1;                               // largest absolute value of the queries

  std::string name() const {
    return fmt::format(
        "{} queries in {} documents [{}, {}], {} keys from {} on, {} heads of {}, {} columns beside{}{}{}", queries,
        cu_seqlens.size() - 1, cu_seqlens.front(), cu_seqlens.back(), keys, key_offset, heads, width, spare,
        accumulate ? ", accumulated" : "", wide_result ? ", in the accumulator type" : "",
        !written           ? ""
        : narrow_gradients ? ", rounded gradients"
                           : ", written gradients");
  }
};

/// Sizes below and above 16 rows, blocks of 64 and 128, heads of 64 and 128; keys before, at and after the queries.
QueriesAndKeys random_queries_and_keys(std::uint64_t seed) {
  RandomChoices choose(seed);
  const std::int64_t pack = choose.chance(40) ? choose.number(1, 80) : choose.number(81, 700);
  const Segments segments = choose.chance(25) ? Segments::one_document(pack) : random_segments(pack, seed);
  const auto cut = [&] {
    const std::int64_t begin = choose.chance(50) ? 0 : choose.number(0, pack - 1);
    return std::pair{begin, choose.chance(50) ? pack : choose.number(begin, pack)};
  };
  const auto [begin, end] = cut();
  const auto [first_key, last_key] = choose.chance(40) ? std::pair{begin, end} : cut();
  constexpr std::int64_t widths[] = {1, 4, 7, 10, 24, 32, 64, 64, 64, 80, 96, 100, 128, 128, 128, 200, 256, 300};
  constexpr std::int64_t spares[] = {0, 0, 8, 5};
  return {.heads = choose.number(1, 3),
          .width = widths[choose.number(0, std::ssize(widths) - 1)],
          .queries = end - begin,
          .keys = last_key - first_key,
          .key_offset = first_key - begin,
          .cu_seqlens = segments.slice(begin, end),
          .spare = spares[choose.number(0, 3)],
          .accumulate = choose.chance(40),
          .wide_result = choose.chance(50),
          .written = choose.chance(50),
          .narrow_gradients = choose.chance(50),
          .spread = choose.chance(70) ? 1.0 : 12.0};
}

Tensors inputs(const Stream& stream, const QueriesAndKeys& m, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype);
  const std::int64_t columns = m.heads * m.width + m.spare;
  const Shape queries{m.queries, columns}, keys{m.keys, columns}, per_query{m.queries, m.heads};
  Tensors in;
  in["q"] = random_tensor(stream, dtype, queries, seed, -m.spread, m.spread);
  in["k"] = random_tensor(stream, dtype, keys, seed + 1);
  in["v"] = random_tensor(stream, dtype, keys, seed + 2);
  in["d_y"] = random_tensor(stream, dtype, queries, seed + 3);
  in["delta"] = random_tensor(stream, accumulator, per_query, seed + 4);
  // Values that are overwritten, or sums that are added to.
  in["y"] = random_tensor(stream, m.wide_result ? accumulator : dtype, queries, seed + 5);
  in["lse"] = random_tensor(stream, accumulator, per_query, seed + 6, -2, 5);
  for (std::int64_t t = 0; t < m.queries; t += 3)  // these queries have attended to no key yet
    assign(in["lse"].view().slice_rows(t, 1),
           std::vector<double>(static_cast<std::size_t>(m.heads), -std::numeric_limits<double>::infinity()));
  const DType gradients = m.written && m.narrow_gradients ? dtype : accumulator;
  in["d_q"] = random_tensor(stream, gradients, queries, seed + 7, -0.1, 0.1);
  in["d_k"] = random_tensor(stream, gradients, keys, seed + 8, -0.1, 0.1);
  in["d_v"] = random_tensor(stream, gradients, keys, seed + 9, -0.1, 0.1);
  return in;
}

const char* const result_names[] = {"y", "lse", "d_q", "d_k", "d_v"};

/// Runs forward, and backward with the lse that it wrote.
void execute(const Stream& stream, const QueriesAndKeys& m, const Tensors& all, SegmentsView segments) {
  const auto heads = [&](const char* name) {
    TensorView x = all.at(name).view().slice_columns(m.spare % 8 == 0 ? 0 : 3, m.heads * m.width);
    x.shape = {x.rows(), m.heads, m.width};
    return x;
  };
  const AttentionInputs in{
      .q = heads("q"), .k = heads("k"), .v = heads("v"), .key_offset = m.key_offset, .segments = segments};
  attention_forward(stream, {.in = in, .accumulate = m.accumulate, .y = heads("y"), .lse = all.at("lse")});
  attention_backward(stream, {.in = in,
                              .accumulate = !m.written,
                              .lse = all.at("lse"),
                              .delta = all.at("delta"),
                              .d_y = heads("d_y"),
                              .d_q = heads("d_q"),
                              .d_k = heads("d_k"),
                              .d_v = heads("d_v")});
}

/// Like expect_close, but equal infinities are equal.
void expect_close_or_infinite(TensorView a, TensorView b, double limit, std::string_view name) {
  std::vector<double> left = values_of(a), right = values_of(b);
  for (std::size_t i = 0; i < left.size(); ++i)
    if (left[i] == right[i]) left[i] = right[i] = std::isfinite(right[i]) ? right[i] : 0;
  expect_close(left, right, limit, name);
}

class DevicesAttention : public GpuTest {
 protected:
  /// All tensors after the call on the GPU.
  Tensors on_gpu(const QueriesAndKeys& m, const Tensors& in) const {
    return GpuTest::on_gpu(
        in, m.cu_seqlens, m.queries,
        [&](const Stream& stream, const Tensors& all, SegmentsView segments) { execute(stream, m, all, segments); });
  }

  void expect_equal_to_the_cpu(const QueriesAndKeys& m, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, m.name()));
    const double limit = GetParam() == DType::f64 ? 1e-13 : GetParam() == DType::f32 ? 3e-6 : 6e-3;
    const Tensors want = inputs(cpu(), m, GetParam(), seed);
    const Tensors got = on_gpu(m, want), again = on_gpu(m, want);
    execute(cpu(), m, want, segments_view(m.cu_seqlens, m.queries));
    for (const char* name : result_names) {
      expect_close_or_infinite(got.at(name), want.at(name), limit, name);
      EXPECT_TRUE(same_bits(got.at(name), again.at(name))) << name << " differs from call to call";
    }
  }
};

TEST_P(DevicesAttention, EqualsTheCpuOnRandomRunsOfQueriesAndKeys) {
  for (std::uint64_t seed = 0; seed < cases(200); ++seed) expect_equal_to_the_cpu(random_queries_and_keys(seed), seed);
}

TEST_P(DevicesAttention, EqualsTheCpuOverManyBlocks) {
  QueriesAndKeys m{.heads = 2, .width = 128, .queries = 3000, .keys = 3000, .key_offset = 0, .cu_seqlens = {0, 3000}};
  if (GetParam() == DType::f64) GTEST_SKIP() << "only in float32 and bf16";
  expect_equal_to_the_cpu(m, 1);
  m.width = 64;
  m.cu_seqlens = {-40, 57, 58, 700, 2748, 3100};
  expect_equal_to_the_cpu(m, 2);
  m.queries = 5;  // new tokens after a KV cache
  m.key_offset = -2995;
  m.cu_seqlens = {-2995, 5};
  expect_equal_to_the_cpu(m, 3);
}

TEST_P(DevicesAttention, NonFiniteValuesReachOnlyQueriesAndKeysThatUseThem) {
  for (const std::int64_t width : {10, 64, 128, 200})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"q", "k", "v", "d_y"})
        for (const std::int64_t t : {62, 100, 149}) {
          const QueriesAndKeys m{.heads = 2,
                                 .width = width,
                                 .queries = 300,
                                 .keys = 300,
                                 .key_offset = 0,
                                 .cu_seqlens = {0, 62, 150, 300}};
          const Tensors in = inputs(cpu(), m, GetParam(), 1);
          const Tensors clean = on_gpu(m, in);
          // One element of one head.
          TensorView target = in.at(where).view().slice_rows(t, 1).slice_columns(width + 3, 1);
          assign(target, std::vector<double>{poison});
          const Tensors out = on_gpu(m, in);
          const auto expect_untouched = [&](const char* name, std::int64_t from, std::int64_t to) {
            EXPECT_TRUE(same_bits(out.at(name).view().slice_rows(from, to - from),
                                  clean.at(name).view().slice_rows(from, to - from)))
                << poison << " in " << where << " of token " << t << ", heads of " << width << ": " << name << " of ["
                << from << ", " << to << ")";
          };
          const bool key = where[0] == 'k' || where[0] == 'v', forward = where[0] != 'd';
          const TensorView one{.data = nullptr, .dtype = GetParam(), .shape = {1, 2, width}, .row_stride = 2 * width};
          const bool mixes = attention_form(Device::cuda, {.q = one, .k = one, .v = one}).fused;
          for (const char* name : result_names) {
            expect_untouched(name, 0, 62);
            expect_untouched(name, 150, 300);
          }
          for (const char* name : {"y", "d_q"}) {
            if (mixes) break;
            if (key) expect_untouched(name, 62, t);
            if (!key) {  // a query changes only its own row
              expect_untouched(name, 62, t);
              expect_untouched(name, t + 1, 150);
            }
          }
          if (!key && !mixes)
            for (const char* name : {"d_k", "d_v"}) expect_untouched(name, t + 1, 150);
          const auto expect_reached = [&](const char* name, std::int64_t at) {
            bool found = false;
            for (const double x : values_of(out.at(name).view().slice_rows(at, 1))) found = found || !std::isfinite(x);
            EXPECT_TRUE(found) << poison << " in " << where << " of token " << t << ", heads of " << width
                               << " does not reach " << name << " of " << at;
          };
          if (where[0] == 'v' || (forward && std::isnan(poison))) expect_reached("y", t);
          if (key && std::isnan(poison)) expect_reached("y", 149);
          if (where[0] == 'd' || std::isnan(poison)) {
            expect_reached("d_q", t);
            if (where[0] != 'v') expect_reached("d_v", t);
            expect_reached("d_k", t);
          }
        }
}

TEST_P(DevicesAttention, DoesNotWriteColumnsBesideItsHeads) {
  for (const std::int64_t width : {10, 64, 128}) {
    const QueriesAndKeys m{
        .heads = 2, .width = width, .queries = 70, .keys = 70, .key_offset = 0, .cu_seqlens = {0, 30, 70}, .spare = 8};
    const Tensors in = inputs(cpu(), m, GetParam(), 1);
    const Tensors out = on_gpu(m, in);
    for (const auto& [name, tensor] : in) {
      if (name == "delta" || name == "lse") continue;
      const auto beside = [&](const Tensor& x) { return x.view().slice_columns(2 * width, 8); };
      EXPECT_TRUE(same_bits(beside(out.at(name)), beside(tensor))) << name;
    }
  }
}

TEST_P(DevicesAttention, ReachesOffsetsBeyond32Bits) {
  if (GetParam() == DType::f64) GTEST_SKIP() << "only in float32 and bf16";
  constexpr std::int64_t T = 80, H = 2, E = 128, D = H * E;
  const DType accumulator = accumulator_of(GetParam());
  const Shape wide{T, (std::int64_t{1} << 25) + 8};
  const Tensor in(gpu(), GetParam(), wide), out(gpu(), accumulator, wide);
  const Tensor delta = to_gpu(random_tensor(cpu(), accumulator, {T, H}, 9)), lse(gpu(), accumulator, {T, H});
  const DeviceSegments segments(gpu(), {0, 33, T}, T);
  std::vector<Tensor> near, results;
  for (std::uint64_t seed = 1; seed <= 4; ++seed)
    near.push_back(to_gpu(random_tensor(cpu(), GetParam(), {T, D}, seed)));
  for (int i = 0; i < 4; ++i) results.push_back(Tensor::zeros(gpu(), accumulator, {T, D}));
  // The same inputs twice: dense, and as columns of matrices of more than 2^31 elements.
  const auto call = [&](const auto& input, const auto& result) {
    const auto heads = [](TensorView x) {
      x.shape = {T, H, E};
      return x;
    };
    const AttentionInputs qkv{
        .q = heads(input(0)), .k = heads(input(1)), .v = heads(input(2)), .segments = segments.view()};
    attention_forward(gpu(), {.in = qkv, .y = heads(result(0)), .lse = lse});
    attention_backward(gpu(), {.in = qkv,
                               .lse = lse,
                               .delta = delta,
                               .d_y = heads(input(3)),
                               .d_q = heads(result(1)),
                               .d_k = heads(result(2)),
                               .d_v = heads(result(3))});
  };
  const auto column = [&](const Tensor& x) {
    return [&x](std::size_t i) { return x.view().slice_columns(static_cast<std::int64_t>(i) * D, D); };
  };
  for (std::size_t i = 0; i < 4; ++i) {
    scale(gpu(), {.x = near[i], .y = column(in)(i)});
    fill(gpu(), {.value = 0, .y = column(out)(i)});
  }
  call([&](std::size_t i) { return near[i].view(); }, [&](std::size_t i) { return results[i].view(); });
  call(column(in), column(out));
  for (std::size_t i = 0; i < 4; ++i) {
    const Tensor far(gpu(), accumulator, {T, D});
    scale(gpu(), {.x = column(out)(i), .y = far});
    EXPECT_TRUE(same_bits(to_cpu(far), to_cpu(results[i]))) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesAttention, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test
