#include <cmath>
#include <limits>
#include <string>

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "tests/support/gpu.hpp"

/// Attention over documents of all lengths with heads of 128: cuDNN's fused kernels compute those of 64 tokens or more,
/// another kernel the shorter ones (kernels/cuda/attention/fused_calls.hpp). In a build without cuDNN the same tests
/// check our kernels.
namespace causeway::test {
namespace {

constexpr std::int64_t E = 128;

/// Queries and keys of a pack, with the results of other keys if `accumulate`.
struct LongDocuments {
  std::int64_t heads = 2;
  std::vector<std::int64_t> cu_seqlens;  // of the queries' run
  std::int64_t queries, keys, key_offset = 0;
  bool wide_result = false, accumulate = false;
};

LongDocuments pack(std::vector<std::int64_t> lengths, std::int64_t heads = 2, bool wide_result = false) {
  std::vector<std::int64_t> cu_seqlens{0};
  for (const std::int64_t length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
  const std::int64_t tokens = cu_seqlens.back();
  return {.heads = heads, .cu_seqlens = cu_seqlens, .queries = tokens, .keys = tokens, .wide_result = wide_result};
}

Tensors inputs(const Stream& stream, const LongDocuments& m, DType dtype, std::uint64_t seed) {
  const DType wide = accumulator_of(dtype);
  const Shape queries{m.queries, m.heads, E}, keys{m.keys, m.heads, E}, per_query{m.queries, m.heads};
  Tensors in;
  in["q"] = random_tensor(stream, dtype, queries, seed, -2, 2);
  in["k"] = random_tensor(stream, dtype, keys, seed + 1);
  in["v"] = random_tensor(stream, dtype, keys, seed + 2);
  in["d_y"] = random_tensor(stream, dtype, queries, seed + 3);
  in["y"] = random_tensor(stream, m.wide_result ? wide : dtype, queries, seed + 4);
  in["lse"] = random_tensor(stream, wide, per_query, seed + 5, 2, 5);
  in["delta"] = Tensor::zeros(stream, wide, per_query);
  for (const char* name : {"d_q", "d_k", "d_v"})
    in[name] = Tensor::zeros(stream, wide, name[2] == 'q' ? queries : keys);
  return in;
}

const char* const result_names[] = {"y", "lse", "d_q", "d_k", "d_v"};

/// Forward, then backward with the lse and delta of forward.
void execute(const Stream& stream, const LongDocuments& m, const Tensors& all, SegmentsView segments) {
  const AttentionInputs in{
      .q = all.at("q"), .k = all.at("k"), .v = all.at("v"), .key_offset = m.key_offset, .segments = segments};
  attention_forward(stream, {.in = in, .accumulate = m.accumulate, .y = all.at("y"), .lse = all.at("lse")});
  attention_delta(stream, {.y = all.at("y"), .d_y = all.at("d_y"), .delta = all.at("delta")});
  attention_backward(stream, {.in = in,
                              .lse = all.at("lse"),
                              .delta = all.at("delta"),
                              .d_y = all.at("d_y"),
                              .d_q = all.at("d_q"),
                              .d_k = all.at("d_k"),
                              .d_v = all.at("d_v")});
}

/// Rows [begin, end) of a tensor.
TensorView rows(const Tensors& tensors, const char* name, std::int64_t begin, std::int64_t end) {
  return tensors.at(name).view().slice_rows(begin, end - begin);
}

class DevicesFusedAttention : public GpuTest {
 protected:
  Tensors run(const LongDocuments& m, const Tensors& in) const {
    return on_gpu(in, m.cu_seqlens, m.queries, [&](const Stream& stream, const Tensors& all, SegmentsView segments) {
      execute(stream, m, all, segments);
    });
  }
  Tensors to_device(const Tensors& in) const {
    Tensors copies;
    for (const auto& [name, tensor] : in) copies[name] = to_gpu(tensor);
    return copies;
  }
  /// The same values in another type, computed on the GPU without tensor cores and without cuDNN.
  Tensors run_in(DType dtype, const LongDocuments& m, const Tensors& in) const {
    Tensors wide;
    for (const auto& [name, tensor] : in)
      wide[name] =
          converted(cpu(), tensor, tensor.view().dtype == DType::bf16 || dtype == DType::f64 ? dtype : DType::f32);
    return run(m, wide);
  }
  void expect_close_to(const Tensors& got, const Tensors& want, double y_limit, double gradient_limit) const {
    for (const char* name : result_names)
      expect_close(got.at(name), want.at(name),
                   name[0] == 'y'   ? y_limit
                   : name[0] == 'l' ? 1e-5
                                    : gradient_limit,
                   name);
  }
};

// cuDNN's errors are 2.0e-3 to 2.3e-3 (y) and 2.2e-3 to 2.5e-3 (gradients): weights and results are rounded to bf16.
constexpr double y_limit = 2.5e-3, gradient_limit = 2.8e-3;

TEST_P(DevicesFusedAttention, EqualsFloat64AndRepeatsItsBits) {
  const LongDocuments cases[] = {
      pack({1500}),
      pack({128, 127, 700, 57, 8, 300, 1000, 129, 1}, 3),  // between them documents that our kernels compute
      pack({400, 130, 90, 500}, 5, true),
      pack({8, 8, 8, 63, 1, 1, 40, 17, 31, 62, 64, 5, 16, 16, 16, 16, 16, 16, 16},
           3),  // 63 + 1 and 40 + 17 share a block
      pack({30, 2, 63, 9}, 2, true),
      {.cu_seqlens = {-70, 300, 800}, .queries = 600, .keys = 600},                        // a chunk
      {.cu_seqlens = {-500, 300, 900}, .queries = 900, .keys = 1400, .key_offset = -500},  // and earlier keys
      {.cu_seqlens = {-900, 300}, .queries = 300, .keys = 500, .key_offset = -800, .wide_result = true},  // only those
  };
  for (const LongDocuments& m : cases) {
    SCOPED_TRACE(fmt::format("{} queries in {} documents, {} keys", m.queries, m.cu_seqlens.size() - 1, m.keys));
    const Tensors in = inputs(cpu(), m, DType::bf16, 3), got = run(m, in), again = run(m, in);
    expect_close_to(got, run_in(DType::f64, m, in), y_limit, gradient_limit);
    for (const char* name : result_names)
      EXPECT_TRUE(same_bits(got.at(name), again.at(name))) << name << " differs from call to call";
  }
}

TEST_P(DevicesFusedAttention, SumsOverRunsOfKeysLikeOneRun) {
  const LongDocuments own{.cu_seqlens = {-700, 300, 900}, .queries = 900, .keys = 900, .wide_result = true},
      earlier{.cu_seqlens = {-700, 900},
              .queries = 300,
              .keys = 700,
              .key_offset = -700,
              .wide_result = true,
              .accumulate = true},
      both{.cu_seqlens = {-700, 300, 900}, .queries = 900, .keys = 1600, .key_offset = -700, .wide_result = true};
  const Tensors in = inputs(cpu(), both, DType::bf16, 5);
  const auto part_of = [&](std::int64_t queries, std::int64_t key, std::int64_t keys) {
    Tensors part;
    for (const auto& [name, tensor] : in) {
      const bool of_keys = name == "k" || name == "v" || name == "d_k" || name == "d_v";
      part[name] = moved(tensor.view().slice_rows(of_keys ? key : 0, of_keys ? keys : queries), cpu(), cpu());
    }
    return part;
  };
  // As the ring does: own keys, then the earlier ones for the first document; backward with the sum's lse and delta.
  const Tensors first = to_device(part_of(900, 700, 900)), second = to_device(part_of(300, 0, 700));
  const DeviceSegments of_own(gpu(), own.cu_seqlens, 900), of_earlier(gpu(), {-700, 300}, 300);
  const auto inputs_of = [&](const Tensors& keys, std::int64_t queries, std::int64_t offset, SegmentsView segments) {
    return AttentionInputs{.q = rows(first, "q", 0, queries),
                           .k = keys.at("k"),
                           .v = keys.at("v"),
                           .key_offset = offset,
                           .segments = segments};
  };
  const AttentionInputs pairs[] = {inputs_of(first, 900, 0, of_own.view()),
                                   inputs_of(second, 300, -700, of_earlier.view())};
  for (const AttentionInputs& pair : pairs)
    attention_forward(gpu(), {.in = pair,
                              .accumulate = pair.key_offset < 0,
                              .y = rows(first, "y", 0, pair.q.rows()),
                              .lse = rows(first, "lse", 0, pair.q.rows())});
  attention_delta(gpu(), {.y = first.at("y"), .d_y = first.at("d_y"), .delta = first.at("delta")});
  for (const AttentionInputs& pair : pairs) {
    const Tensors& keys = pair.key_offset < 0 ? second : first;
    attention_backward(gpu(), {.in = pair,
                               .lse = rows(first, "lse", 0, pair.q.rows()),
                               .delta = rows(first, "delta", 0, pair.q.rows()),
                               .d_y = rows(first, "d_y", 0, pair.q.rows()),
                               .d_q = rows(first, "d_q", 0, pair.q.rows()),
                               .d_k = keys.at("d_k"),
                               .d_v = keys.at("d_v")});
  }
  const Tensors want = run_in(DType::f64, both, in);
  expect_close(to_cpu(first.at("y")), want.at("y"), y_limit, "y");
  expect_close(to_cpu(first.at("lse")), want.at("lse"), 1e-5, "lse");
  expect_close(to_cpu(first.at("d_q")), want.at("d_q"), gradient_limit, "d_q");
  for (const char* name : {"d_k", "d_v"}) {
    expect_close(to_cpu(second.at(name)), rows(want, name, 0, 700), gradient_limit, name);
    expect_close(to_cpu(first.at(name)), rows(want, name, 700, 1600), gradient_limit, name);
  }
}

TEST_P(DevicesFusedAttention, ADocumentInAPackGivesWhatItGivesAlone) {
  const std::vector<std::int64_t> lengths{300, 1000, 40, 128, 700, 5, 260};
  const LongDocuments m = pack(lengths);
  const Tensors in = inputs(cpu(), m, DType::bf16, 7), together = run(m, in);
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    const LongDocuments one = pack({lengths[s]});
    Tensors part;
    for (const auto& [name, tensor] : in)
      part[name] = moved(rows(in, name.c_str(), m.cu_seqlens[s], m.cu_seqlens[s + 1]), cpu(), cpu());
    const Tensors alone = run(one, part);
    for (const char* name : result_names)
      expect_close(rows(together, name, m.cu_seqlens[s], m.cu_seqlens[s + 1]), alone.at(name), 1e-3, name);
  }
}

TEST_P(DevicesFusedAttention, NonFiniteValuesStayInTheirDocument) {
  for (const std::vector<std::int64_t>& lengths :
       std::vector<std::vector<std::int64_t>>{{200, 300, 60, 200, 700}, {10, 20, 33, 5, 90}}) {
    const LongDocuments m = pack(lengths);
    const Tensors in = inputs(cpu(), m, DType::bf16, 9), clean = run(m, in);
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"q", "k", "v", "d_y"})
        for (const std::size_t document : {1u, 2u, 3u}) {
          const std::int64_t begin = m.cu_seqlens[document], end = m.cu_seqlens[document + 1], at = (begin + end) / 2;
          Tensors poisoned;
          for (const auto& [name, tensor] : in) poisoned[name] = moved(tensor, cpu(), cpu());
          TensorView row = rows(poisoned, where, at, at + 1);
          row.shape = {1, m.heads * E};
          assign(row.slice_columns(E + 3, 1), std::vector<double>{poison});
          const Tensors out = run(m, poisoned);
          for (const char* name : result_names)
            for (const auto& [from, to] : {std::pair(std::int64_t{0}, begin), std::pair(end, m.queries)})
              EXPECT_TRUE(same_bits(rows(out, name, from, to), rows(clean, name, from, to)))
                  << name << " of [" << from << ", " << to << ") with " << poison << " in " << where << " of [" << begin
                  << ", " << end << ")";
          bool reached = false;
          for (const double x : values_of(rows(out, "d_k", begin, end))) reached = reached || !std::isfinite(x);
          EXPECT_TRUE(reached) << poison << " in " << where << " of [" << begin << ", " << end << ")";
        }
  }
}

TEST_P(DevicesFusedAttention, DoesNotWriteBesideItsHeads) {
  const LongDocuments m = pack({300, 50, 400});
  const Tensors in = inputs(cpu(), m, DType::bf16, 11), want = run(m, in);
  Tensors wide;
  for (const auto& [name, tensor] : in) {
    const std::int64_t columns = tensor.view().columns();
    wide[name] = to_gpu(random_tensor(cpu(), tensor.view().dtype, {m.queries, columns + 16}, 12));
    for (std::int64_t t = 0; t < m.queries; ++t)
      gpu().copy(wide[name].view().slice_rows(t, 1).data, to_gpu(tensor.view().slice_rows(t, 1)).view().data,
                 columns * size_of(tensor.view().dtype));
  }
  Tensors before;
  for (const auto& [name, tensor] : wide) before[name] = to_cpu(tensor);
  const auto part = [&](const Tensors& all, const std::string& name, bool heads) {
    const TensorView x = all.at(name);
    const std::int64_t columns = x.columns() - 16;
    TensorView some = heads ? x.slice_columns(0, columns) : x.slice_columns(columns, 16);
    if (heads && name != "lse" && name != "delta") some.shape = {m.queries, m.heads, E};
    return some;
  };
  const DeviceSegments segments(gpu(), m.cu_seqlens, m.queries);
  const auto heads = [&](const char* name) { return part(wide, name, true); };
  const AttentionInputs qkv{.q = heads("q"), .k = heads("k"), .v = heads("v"), .segments = segments.view()};
  attention_forward(gpu(), {.in = qkv, .y = heads("y"), .lse = heads("lse")});
  attention_delta(gpu(), {.y = heads("y"), .d_y = heads("d_y"), .delta = heads("delta")});
  attention_backward(gpu(), {.in = qkv,
                             .lse = heads("lse"),
                             .delta = heads("delta"),
                             .d_y = heads("d_y"),
                             .d_q = heads("d_q"),
                             .d_k = heads("d_k"),
                             .d_v = heads("d_v")});
  Tensors after;
  for (const auto& [name, tensor] : wide) after[name] = to_cpu(tensor);
  for (const char* name : result_names) {
    EXPECT_EQ(values_of(part(after, name, false)), values_of(part(before, name, false))) << name;
    EXPECT_EQ(values_of(part(after, name, true)), values_of(want.at(name))) << name;
  }
}

TEST_P(DevicesFusedAttention, CutsADocumentOfWhichNoHeadFits) {
  const LongDocuments m = pack({66000, 100}, 1);
  const Tensors in = inputs(cpu(), m, DType::bf16, 13), got = run(m, in), again = run(m, in);
  expect_close_to(got, run_in(DType::f32, m, in), y_limit, gradient_limit);
  for (const char* name : result_names)
    EXPECT_TRUE(same_bits(got.at(name), again.at(name))) << name << " differs from call to call";
}

TEST_P(DevicesFusedAttention, GradientsThatAreWrittenAreTheRoundedSums) {
  const LongDocuments packs[] = {pack({300, 64, 5, 700, 129}), pack({200, 300}), pack({9, 30}), pack({66000, 20}, 2)};
  for (const LongDocuments& m : packs) {
    SCOPED_TRACE(fmt::format("{} tokens", m.queries));
    const Tensors in = inputs(cpu(), m, DType::bf16, 15);
    Tensors all = to_device(in);
    const std::int64_t D = m.heads * E;
    // q, k and v are columns of one matrix, as in a layer; the gradients too, or they are tensors of their own.
    const Tensor qkv(gpu(), DType::bf16, {m.queries, 3 * D});
    const char* const names[] = {"q", "k", "v"};
    const auto part_of = [&](const Tensor& x, std::int64_t which) {
      TensorView part = x.view().slice_columns(which * D, D);
      part.shape = {m.queries, m.heads, E};
      return part;
    };
    for (std::int64_t i = 0; i < 3; ++i) scale(gpu(), {.x = all.at(names[i]), .y = part_of(qkv, i)});
    const DeviceSegments segments(gpu(), m.cu_seqlens, m.queries);
    const AttentionInputs from{
        .q = part_of(qkv, 0), .k = part_of(qkv, 1), .v = part_of(qkv, 2), .segments = segments.view()};
    execute(gpu(), m, all, segments.view());
    const auto expect_sums = [&](bool narrow, bool columns) {
      SCOPED_TRACE(fmt::format("{} {}", narrow ? "rounded" : "float32", columns ? "columns" : "tensors"));
      const DType dtype = narrow ? DType::bf16 : DType::f32;
      const Tensor together(gpu(), dtype, {m.queries, 3 * D});
      std::vector<Tensor> own;
      std::vector<TensorView> gradients;
      for (std::int64_t i = 0; i < 3; ++i) {
        own.emplace_back(gpu(), dtype, Shape{m.queries, m.heads, E});
        gradients.push_back(columns ? part_of(together, i) : own.back().view());
        fill(gpu(), {.value = std::nan(""), .y = gradients.back()});
      }
      attention_backward(gpu(), {.in = from,
                                 .accumulate = false,
                                 .lse = all.at("lse"),
                                 .delta = all.at("delta"),
                                 .d_y = all.at("d_y"),
                                 .d_q = gradients[0],
                                 .d_k = gradients[1],
                                 .d_v = gradients[2]});
      for (std::size_t i = 0; i < 3; ++i) {
        const Tensor got(gpu(), dtype, gradients[i].shape), want(gpu(), dtype, gradients[i].shape);
        scale(gpu(), {.x = gradients[i], .y = got});
        scale(gpu(), {.x = all.at(std::string("d_") + names[i]), .y = want});
        EXPECT_TRUE(same_bits(to_cpu(got), to_cpu(want))) << "d_" << names[i];
      }
    };
    for (const bool narrow : {true, false})
      for (const bool columns : {true, false}) expect_sums(narrow, columns);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesFusedAttention, testing::Values(DType::bf16),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test
