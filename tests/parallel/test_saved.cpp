#include "parallel/saved.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "kernels/core/error.hpp"

namespace causeway::test {
namespace {

Tensor tensor_of(const Stream& stream, std::int64_t rows) { return Tensor(stream, DType::f32, {rows}); }

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::internal);
    return error.what();
  }
  return "no error";
}

TEST(Saved, ScopesKeepEqualSlotNamesApart) {
  const Stream stream;
  Saved saved;
  saved.scope("causal_conv").put("halos", tensor_of(stream, 3));
  saved.scope("hyena_se").put("halos", tensor_of(stream, 5));
  EXPECT_EQ(saved.scope("causal_conv").take("halos").view().rows(), 3);
  EXPECT_EQ(saved.scope("hyena_se").take("halos").view().rows(), 5);
  EXPECT_TRUE(saved.empty());
}

TEST(Saved, ATakenTensorIsFreedByItsUser) {
  const Stream stream;
  Saved saved;
  saved.put("x", tensor_of(stream, 1000));
  const std::int64_t held = stream.memory().live_bytes();
  saved.take("x");
  EXPECT_LT(stream.memory().live_bytes(), held);
}

TEST(Saved, AMissingSlotIsNamedWithItsScope) {
  Saved saved("layer 3 mamba");
  EXPECT_EQ(error_of([&] { saved.scope("selective_scan").take("states"); }),
            "saved tensors of 'layer 3 mamba/selective_scan': backward takes slot 'states', which forward did not put");
}

TEST(Saved, ASlotTakenTwiceIsMissing) {
  const Stream stream;
  Saved saved;
  saved.put("x", tensor_of(stream, 1));
  saved.take("x");
  EXPECT_NE(error_of([&] { saved.take("x"); }), "no error");
}

TEST(Saved, ASlotPutTwiceIsNamedWithItsScope) {
  const Stream stream;
  Saved saved("layer 0 se");
  saved.put("y", tensor_of(stream, 1));
  EXPECT_EQ(error_of([&] { saved.put("y", tensor_of(stream, 1)); }),
            "saved tensors of 'layer 0 se': forward put slot 'y' twice");
}

TEST(Saved, SlotsLeftOverAreNamedWithTheirScopes) {
  const Stream stream;
  Saved saved("layer 1 attention");
  saved.put("qkv", tensor_of(stream, 1));
  saved.scope("attention").put("lse", Tensor());
  EXPECT_FALSE(saved.empty());
  EXPECT_EQ(error_of([&] { saved.ensure_empty(); }),
            "saved tensors that backward did not take: 'qkv' of 'layer 1 attention' 'lse' of "
            "'layer 1 attention/attention'");
}

TEST(Saved, ScopeOfNothingIsNothing) { EXPECT_EQ(scope_of(nullptr, "attention"), nullptr); }

}  // namespace
}  // namespace causeway::test
