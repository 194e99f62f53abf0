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

/// What tests of the GPU's kernels against the CPU's share.
namespace causeway::test {

/// What a test of the GPU runs on; absent, and the test to be skipped, where no GPU answers. One that is there but
/// fails is an error.
inline std::optional<Stream> gpu_stream() {
  std::optional<Stream> stream;
  if (visible_gpus() > 0) stream.emplace(Device::cuda);
  return stream;
}

/// max|a - b| / max|b|; max|a| where b is zero; infinite where either holds a NaN or the sizes differ.
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

/// `got` is `want` up to `limit` of its norm, and no element of it is far off, which a norm over many does not see.
inline void expect_close(std::span<const double> got, std::span<const double> want, double limit,
                         std::string_view name) {
  EXPECT_LE(relative_error(got, want), limit) << name;
  EXPECT_LE(largest_error(got, want), std::max(limit, 0.05)) << name;
}
inline void expect_close(TensorView got, TensorView want, double limit, std::string_view name) {
  expect_close(values_of(got), values_of(want), limit, name);
}

/// The tensors of an operator's calls, by name.
using Tensors = std::map<std::string, Tensor>;

/// The view of that name, or an absent one.
inline TensorView view(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second.view();
}

/// A test over dtypes with a stream on each device; skipped where no GPU answers.
class GpuTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    gpu_ = gpu_stream();
    if (!gpu_) GTEST_SKIP() << "no GPU answers";
  }

  const Stream& cpu() const { return cpu_; }
  const Stream& gpu() const { return *gpu_; }

  /// A dense copy on the GPU; absent where x is.
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

  /// What call(stream, tensors, segments) leaves in copies of `in` on the GPU. The documents are those of a run.
  template <class Call>
  Tensors on_gpu(const Tensors& in, const std::vector<std::int64_t>& cu_seqlens, std::int64_t tokens,
                 const Call& call) const {
    Tensors there, back;
    for (const auto& [name, tensor] : in) there[name] = to_gpu(tensor);
    const DeviceSegments segments(gpu(), cu_seqlens, tokens);
    call(gpu(), there, segments.view());
    for (const auto& [name, tensor] : there) back[name] = to_cpu(tensor);
    return back;
  }

  /// call() leaves the same in the tensors named on both devices, up to limit_of(name), and the same bits on the GPU
  /// each time.
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

/// How many random cases a test takes: `count`, or as few as CAUSEWAY_TEST_CASES says but at least one, for tools under
/// which each takes a hundred times as long.
inline std::uint64_t cases(std::uint64_t count) {
  const char* const most = std::getenv("CAUSEWAY_TEST_CASES");
  return most == nullptr ? count : std::clamp<std::uint64_t>(std::strtoull(most, nullptr, 10), 1, count);
}

/// Small random numbers for shapes, the same for the same seed.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed * 7919 + 1) {}
  /// In [low, high].
  std::int64_t number(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return number(0, 99) < percent; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace causeway::test
