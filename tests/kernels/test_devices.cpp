#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"
#include "tests/support/tensors.hpp"

/// The GPU's kernels against the CPU's, which are the specification. Skipped where no GPU answers.
namespace causeway::test {
namespace {

class Devices : public testing::TestWithParam<DType> {
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

  Tensor to_gpu(TensorView x) const {
    Tensor copy(gpu(), x.dtype, x.shape);
    gpu().copy(copy.view().data, x.data, x.bytes());
    return copy;
  }
  Tensor to_cpu(TensorView x) const {
    Tensor copy(cpu(), x.dtype, x.shape);
    gpu().copy(copy.view().data, x.data, x.bytes());
    gpu().wait();
    return copy;
  }

 private:
  Stream cpu_;
  std::optional<Stream> gpu_;
};

// Whole matrices and the columns [1, columns - 2) of them; more columns than a block has threads, more rows than a grid has blocks along y.
const Shape shapes[] = {{1, 4}, {129, 70}, {5, 3000}, {600000, 5}, {0, 8}};

TensorView inner(TensorView x) { return x.slice_columns(1, x.columns() - 3); }

TEST_P(Devices, ScaleGivesTheSameBits) {
  for (const Shape& shape : shapes)
    for (const DType to : floating_types)
      for (const bool accumulate : {false, true}) {
        const Tensor x = random_tensor(cpu(), GetParam(), shape, 1), y = random_tensor(cpu(), to, shape, 2), gpu_x = to_gpu(x), gpu_y = to_gpu(y);
        // A power of two, so that neither device's multiplication rounds and a fused multiply-add is no different.
        scale(cpu(), {.x = inner(x), .alpha = -0.5, .accumulate = accumulate, .y = inner(y)});
        scale(gpu(), {.x = inner(gpu_x), .alpha = -0.5, .accumulate = accumulate, .y = inner(gpu_y)});
        EXPECT_TRUE(same_bits(to_cpu(gpu_y), y)) << shape.to_string() << name_of(to) << accumulate;
        scale(cpu(), {.x = x, .alpha = 2, .accumulate = accumulate, .y = y});
        scale(gpu(), {.x = gpu_x, .alpha = 2, .accumulate = accumulate, .y = gpu_y});
        EXPECT_TRUE(same_bits(to_cpu(gpu_y), y)) << shape.to_string() << name_of(to) << accumulate;
      }
}

TEST_P(Devices, FillGivesTheSameBits) {
  for (const Shape& shape : shapes) {
    const Tensor y = random_tensor(cpu(), GetParam(), shape, 1), gpu_y = to_gpu(y);
    fill(cpu(), {.value = 0.1, .y = inner(y)});
    fill(gpu(), {.value = 0.1, .y = inner(gpu_y)});
    EXPECT_TRUE(same_bits(to_cpu(gpu_y), y)) << shape.to_string();
  }
}

TEST_P(Devices, CopyRowsGivesTheSameBits) {
  const RowRange ranges[] = {{.from = 2, .to = 0, .count = 3}, {.from = 0, .to = 90, .count = 1}, {.from = 4, .to = 1, .count = 80}, {.from = 7, .to = 7, .count = 0}};
  for (const bool accumulate : {false, true}) {
    const Tensor x = random_tensor(cpu(), GetParam(), {100, 37}, 1), y = random_tensor(cpu(), GetParam(), {100, 37}, 2), gpu_x = to_gpu(x), gpu_y = to_gpu(y);
    copy_rows(cpu(), {.x = inner(x), .ranges = ranges, .accumulate = accumulate, .y = inner(y)});
    copy_rows(gpu(), {.x = inner(gpu_x), .ranges = ranges, .accumulate = accumulate, .y = inner(gpu_y)});
    EXPECT_TRUE(same_bits(to_cpu(gpu_y), y)) << accumulate;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Devices, testing::ValuesIn(floating_types), dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test
