#include "kernels/probe.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

class RepeatedExponentials : public testing::TestWithParam<DType> {};

TEST_P(RepeatedExponentials, EqualTheFormulaAppliedAsManyTimes) {
  const Stream stream;
  for (const std::int64_t times : {0, 1, 2, 17}) {
    const Tensor x = random_tensor(stream, GetParam(), {3, 5000}, 1);
    const Padded y(stream, random_tensor(stream, GetParam(), {3, 5000}, 2));
    repeated_exponential(stream, {.x = x, .times = times, .y = y});
    std::vector<double> expected = values_of(x);
    for (double& value : expected)
      for (std::int64_t time = 0; time < times; ++time) value = std::exp2(-value);
    EXPECT_LT(relative_error(values_of(y), expected), 16 * rounding_of(GetParam())) << times;
    EXPECT_TRUE(y.padding_untouched());
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RepeatedExponentials, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test
