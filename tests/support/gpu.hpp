#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/gpu.hpp"
#include "kernels/core/segments.hpp"
#include "tests/support/tensors.hpp"

/// Shared by the tests that compare the GPU's kernels with the CPU's.
namespace causeway::test {

/// A stream on the GPU; empty if no GPU is visible, and then the test is to be skipped. A visible GPU that fails is an
/// error.
inline std::optional<Stream> gpu_stream() {
  std::optional<Stream> stream;
  if (visible_gpus() > 0) stream.emplace(Device::cuda);
  return stream;
}

/// max|a - b| / max|b|; max|a| if b is zero; infinite if either holds a NaN or the sizes differ.
inline double largest_error(std::span<const double> a, std::span<const double> b) {
  constexpr double never = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return never;
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return never;
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return difference / (scale > 0 ? scale : 1);
}

/// Expects that `got` equals `want` up to `limit` of its norm, and that no single element is far off, which a norm over
/// many elements would not show.
inline void expect_close(std::span<const double> got, std::span<const double> want, double limit,
                         std::string_view name) {
  EXPECT_LE(relative_error(got, want), limit) << name;
  EXPECT_LE(largest_error(got, want), std::max(limit, 0.05)) << name;
}
inline void expect_close(TensorView got, TensorView want, double limit, std::string_view name) {
  expect_close(values_of(got), values_of(want), limit, name);
}

/// The tensors of an operator's calls by name.
using Tensors = std::map<std::string, Tensor>;

/// The view of that name, or an absent one.
inline TensorView view(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second.view();
}

/// A test that runs over dtypes, with a stream on each device. Skipped if no GPU is visible.
class GpuTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    gpu_ = gpu_stream();
    if (!gpu_) GTEST_SKIP() << "no usable GPU";
  }

  const Stream& cpu() const { return cpu_; }
  const Stream& gpu() const { return *gpu_; }

  /// A dense copy on the GPU; absent if x is.
  Tensor to_gpu(TensorView x) const {
    if (!x.present()) return {};
    Tensor copy(gpu(), x.dtype, x.shape);
    gpu().copy(copy.view().data, x.data, x.bytes());
    return copy;
  }
  Tensor to_cpu(TensorView x) const {
    if (!x.present()) return {};
    Tensor copy(cpu(), x.dtype, x.shape);
    gpu().copy(copy.view().data, x.data, x.bytes());
    gpu().wait();
    return copy;
  }

  /// Copies `in` to the GPU, makes call(stream, tensors, segments) on_device, and returns all tensors afterwards. The
  /// documents are those of a run.
  template <class Call>
  Tensors on_gpu(const Tensors& in, const std::vector<std::int64_t>& cu_seqlens, std::int64_t tokens,
                 const Call& call) const {
    Tensors on_device, back;
    for (const auto& [name, tensor] : in) on_device[name] = to_gpu(tensor);
    const DeviceSegments segments(gpu(), cu_seqlens, tokens);
    call(gpu(), on_device, segments.view());
    for (const auto& [name, tensor] : on_device) back[name] = to_cpu(tensor);
    return back;
  }

  /// Expects that call() gives the same values of the named tensors on both devices, up to limit_of(name), and the same
  /// bits on the GPU when repeated.
  template <class Names, class Limit, class Call>
  void expect_as_on_the_cpu(const Tensors& in, const std::vector<std::int64_t>& cu_seqlens, std::int64_t tokens,
                            const Names& names, const Limit& limit_of, const Call& call) const {
    const Tensors got = on_gpu(in, cu_seqlens, tokens, call), again = on_gpu(in, cu_seqlens, tokens, call);
    call(cpu(), in, segments_view(cu_seqlens, tokens));
    for (const char* name : names) {
      if (!view(in, name).present()) continue;
      expect_close(view(got, name), view(in, name), limit_of(name), name);
      EXPECT_TRUE(same_bits(view(got, name), view(again, name))) << name << " differs from call to call";
    }
  }

 private:
  Stream cpu_;
  std::optional<Stream> gpu_;
};

/// A GpuTest over cases of one operator. In addition to `Case`, which has the documents `cu_seqlens` and the number of
/// `tokens`, the test defines execute(stream, case, tensors, segments), which calls the operator's kernels.
template <class Case>
class GpuCaseTest : public GpuTest {
 protected:
  static auto call_of(const Case& c) {
    return [&](const Stream& stream, const Tensors& all, SegmentsView segments) { execute(stream, c, all, segments); };
  }
  static std::int64_t tokens_of(const Case& c) {
    if constexpr (requires { c.tokens(); })
      return c.tokens();
    else
      return c.tokens;
  }
  /// All tensors after the call on the GPU.
  Tensors on_gpu(const Case& c, const Tensors& in) const {
    return GpuTest::on_gpu(in, c.cu_seqlens, tokens_of(c), call_of(c));
  }
  template <class Names, class Limit>
  void expect_as_on_the_cpu(const Case& c, const Tensors& in, const Names& names, const Limit& limit_of) const {
    GpuTest::expect_as_on_the_cpu(in, c.cu_seqlens, tokens_of(c), names, limit_of, call_of(c));
  }
};

/// How many random cases a test makes: `count`, or CAUSEWAY_TEST_CASES if that is set and less (at least one). For
/// tools under which a case takes a hundred times as long.
inline std::uint64_t cases(std::uint64_t count) {
  const char* const limit = std::getenv("CAUSEWAY_TEST_CASES");
  return limit == nullptr ? count : std::clamp<std::uint64_t>(std::strtoull(limit, nullptr, 10), 1, count);
}

/// Small random integers and yes/no choices for test cases; the same for the same seed.
class RandomChoices {
 public:
  explicit RandomChoices(std::uint64_t seed) : engine_(seed * 7919 + 1) {}
  /// In [low, high].
  std::int64_t number(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// True in `percent` of 100 cases.
  bool chance(int percent) { return number(0, 99) < percent; }

 private:
  std::mt19937_64 engine_;
};

/// The tokens of a rank: a part of a random pack, or all of it.
struct RandomRun {
  std::int64_t tokens;
  std::vector<std::int64_t> cu_seqlens;  ///< of the run: the first may be negative, the last more than `tokens`
};

/// Sizes below and above 8 tokens, a block of 64 and many chunks; edges of the run within documents and at their ends.
inline RandomRun random_run_of_pack(RandomChoices& choose, std::uint64_t seed) {
  const std::int64_t pack = choose.chance(40) ? choose.number(1, 70) : choose.number(71, 900);
  const std::int64_t begin = choose.chance(40) ? 0 : choose.number(0, pack - 1),
                     end = choose.chance(40) ? pack : choose.number(begin, pack);
  const Segments segments = choose.chance(25) ? Segments::one_document(pack) : random_segments(pack, seed);
  return {.tokens = end - begin, .cu_seqlens = segments.slice(begin, end)};
}

}  // namespace causeway::test
