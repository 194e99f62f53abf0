/// State and activations in host memory: the same bits as without, on both devices.

#include <gtest/gtest.h>

#include "src/model/activation_memory.hpp"
#include "tests/src/model/parameters/short_training.hpp"

namespace causeway::test {
namespace {

class Offloading : public testing::TestWithParam<std::tuple<int, Device>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Offloading, testing::Combine(testing::Values(1, 2, 3), testing::ValuesIn(devices())),
                         [](const auto& with) {
                           return std::to_string(std::get<0>(with.param)) + suffix_of(std::get<1>(with.param));
                         });

/// Trains with and without; six steps, so that buffers are used again.
void expect_same_bits(const Training& offloaded, ShardLevel level, int ranks, Device device, const std::string& name) {
  SCOPED_TRACE(fmt::format("{} {} on {} ranks", name, name_of(level), ranks));
  on_ranks(ranks, device, [&](Communicator& world, const Stream& stream) {
    Training plain = offloaded;
    plain.offload_optimizer = false;
    plain.model.offload_activations = false;
    EXPECT_TRUE(train(offloaded, level, world, stream, 6) == train(plain, level, world, stream, 6));
  });
}

TEST_P(Offloading, TheOptimizersStateGivesTheSameBitsAtEveryLevel) {
  const auto& [ranks, device] = GetParam();
  for (const ShardLevel level : {ShardLevel::optimizer, ShardLevel::gradients, ShardLevel::parameters})
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const int passes : {1, 3})
        expect_same_bits(
            {.model = {.shape = small_published_model(), .dtype = dtype}, .passes = passes, .offload_optimizer = true},
            level, ranks, device, fmt::format("{} {} passes", name_of(dtype), passes));
}

TEST_P(Offloading, ActivationsGiveTheSameBits) {
  const auto& [ranks, device] = GetParam();
  for (const auto& shape : {small_mixed_model(), small_published_model()})
    for (const std::int64_t blocks : {1, 2, 3, 100})
      for (const bool optimizer : {false, true})
        expect_same_bits({.model = {.shape = shape,
                                    .dtype = DType::bf16,
                                    .recompute = true,
                                    .recompute_blocks = blocks,
                                    .offload_activations = true},
                          .passes = 2,
                          .offload_optimizer = optimizer},
                         ShardLevel::optimizer, ranks, device, fmt::format("every {}", blocks));
}

/// Everything that one update of AdamW writes.
std::vector<std::vector<double>> updated(const Stream& stream, std::int64_t size, bool offloads, double factor,
                                         std::int64_t piece = 0) {
  const Stream host = stream.host();
  const auto made = [&](std::uint64_t seed, double low, const Stream& home) {
    return moved(random_tensor(Stream(), DType::f32, {size}, seed, low, 1), Stream(), home);
  };
  const Stream home = offloads ? host : stream;
  const Tensor gradient = made(1, -1, stream), master = made(2, -1, home), exp_avg = made(3, -1, home),
               exp_avg_sq = made(4, 0, home), weights(stream, DType::bf16, {size}), common(stream, DType::f64, {1});
  scale(stream, {.x = moved(master, home, stream), .y = weights});
  stream.upload(common.view().data, &factor, sizeof factor);
  std::optional<OffloadedAdamW> offloaded;
  if (offloads) offloaded.emplace(stream, piece);
  for (std::int64_t step = 1; step <= 3; ++step) {
    const AdamW args{.gradient = gradient,
                     .factor = common,
                     .learning_rate = 0.1,
                     .weight_decay = 0.1,
                     .step = step,
                     .master = master,
                     .exp_avg = exp_avg,
                     .exp_avg_sq = exp_avg_sq,
                     .weights = weights};
    if (!offloads) {
      adamw(stream, args);
      continue;
    }
    offloaded->begin(common);
    offloaded->update(args);
    offloaded->done()(stream);
  }
  std::vector<std::vector<double>> all;
  for (const Tensor* x : {&weights, &master, &exp_avg, &exp_avg_sq}) all.push_back(host_values<double>(stream, *x));
  return all;
}

TEST(Offload, AdamWInPiecesGivesTheSameBits) {
  for (const Device device : devices()) {
    const Stream stream(device);
    for (const std::int64_t size : {1, 1000, 300'001})
      for (const std::int64_t piece : {std::int64_t{999}, OffloadedAdamW::default_piece})
        for (const double factor : {0.7, std::numeric_limits<double>::quiet_NaN()})
          EXPECT_EQ(updated(stream, size, true, factor, piece), updated(stream, size, false, factor))
              << name_of(device) << " " << size << " " << piece << " " << factor;
  }
}

TEST(Offload, TensorsReturnInTheOppositeOrder) {
  for (const Device device : devices()) {
    const Stream stream(device);
    OffloadedTensors stack(stream);
    for (int pass = 0; pass < 3; ++pass) {
      stack.clear();
      const std::int64_t rows = 1000 + 5000 * pass;  // larger from pass to pass
      const auto content = [&](std::uint64_t i) {
        return random_tensor(Stream(), DType::f32, {rows, 3}, i + 10 * static_cast<std::uint64_t>(pass));
      };
      for (std::uint64_t i = 0; i < 5; ++i) stack.leave(moved(content(i), Stream(), stream));
      stack.free_left();
      stack.start_return();
      for (std::uint64_t i = 5; i-- > (pass == 0 ? 2 : 0);) {  // the first pass ends early
        const Tensor back = stack.take();
        stack.start_return();
        EXPECT_TRUE(same_bits(moved(back, stream, Stream()), content(i))) << i;
      }
      if (pass > 0) {
        EXPECT_THROW(static_cast<void>(stack.take()), Error);
      }
    }
  }
}

TEST(Offload, ReservedMemoryServesTheFirstPass) {
  for (const Device device : devices()) {
    const Stream stream(device);
    const MemoryPool& host = stream.host().memory();
    const Shape shape{3000, 7};
    OffloadedTensors stack(stream);
    stack.reserve(3, 4 * shape.size());
    const std::int64_t reserved = host.live_bytes();
    EXPECT_GE(reserved, 3 * 4 * shape.size()) << name_of(device);
    for (int i = 0; i < 3; ++i) stack.leave(Tensor::zeros(stream, DType::f32, shape));
    stack.free_left();
    EXPECT_EQ(host.live_bytes(), reserved) << name_of(device);
  }
}

TEST(Offload, AModelReservesWhatIsPredicted) {
  constexpr std::int64_t tokens = 500;
  const Stream stream;
  for (const auto& shape : {small_mixed_model(), small_published_model()})
    for (const std::int64_t blocks : {1, 2, 3, 100}) {
      Model model({.shape = shape, .recompute = true, .recompute_blocks = blocks, .offload_activations = true});
      const ActivationShape predicted{.tokens = tokens, .recompute = true, .recompute_blocks = blocks, .offload = true};
      EXPECT_EQ(static_cast<double>(model.reserve_host_memory(stream, tokens)),
                activation_bytes(shape, predicted).offloaded)
          << blocks;
      EXPECT_GT(stream.memory().live_bytes(), 0);
    }
  EXPECT_EQ(Model({.shape = small_mixed_model(), .recompute = true}).reserve_host_memory(stream, tokens), 0);
}

TEST(Offload, CapacityIsAtMostAThirtySecondMore) {
  for (const std::int64_t bytes : {1, 100, 4096, 1'000'001}) {
    EXPECT_GE(OffloadedTensors::capacity(bytes), bytes);
    EXPECT_LE(static_cast<double>(OffloadedTensors::capacity(bytes)), 1.07 * static_cast<double>(bytes));
  }
}

}  // namespace
}  // namespace causeway::test
