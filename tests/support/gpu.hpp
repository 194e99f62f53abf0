#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <vector>

#include "tests/support/tensors.hpp"

/// What tests of the GPU's kernels against the CPU's share.
namespace causeway::test {

/// A test over dtypes with a stream on each device; skipped where no GPU answers.
class GpuTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(Device::cuda);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
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

 private:
  Stream cpu_;
  std::optional<Stream> gpu_;
};

/// How many random cases a test takes: `count`, or as few as CAUSEWAY_TEST_CASES says, for tools under which each takes a hundred times as long.
inline std::uint64_t cases(std::uint64_t count) {
  const char* const most = std::getenv("CAUSEWAY_TEST_CASES");
  return most == nullptr ? count : std::min<std::uint64_t>(count, std::strtoull(most, nullptr, 10));
}

/// Small random numbers for shapes, the same for the same seed.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed * 7919 + 1) {}
  /// In [low, high].
  std::int64_t number(std::int64_t low, std::int64_t high) { return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1)); }
  bool chance(int percent) { return number(0, 99) < percent; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace causeway::test
