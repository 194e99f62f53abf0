#include "kernels/core/integer.hpp"
#include "parallel/strategy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/parallel/subjects.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

std::vector<Device> gpu_devices() {
  std::vector<Device> found = devices();
  std::erase(found, Device::cpu);
  return found;
}

/// Every strategy, as every_subject lists them, on every number of ranks.
class EveryStrategy : public testing::TestWithParam<std::tuple<std::size_t, int, Device>> {
 protected:
  Subject subject_ = every_subject()[std::get<0>(GetParam())];
  int ranks_ = std::get<1>(GetParam());
  Device device_ = std::get<2>(GetParam());
  /// What is most precise there, and what two ways to the same sum may differ by.
  DType precise_ = device_ == Device::cpu ? DType::f64 : DType::f32;
  double rounding_ = device_ == Device::cpu ? 1e-12 : 1e-5;

  /// Runs body(world, sharding, stream) on all ranks for every awkward pack in every layout the strategy takes.
  template <class Body>
  void for_every_pack(Body body) {
    on_ranks(ranks_, device_, [&](Communicator& world, const Stream& stream) {
      for (const Layout layout : subject_.layouts)
        for (const NamedPack& pack : awkward_packs(ranks_, layout)) {
          SCOPED_TRACE(fmt::format("{}, {}", name_of(layout), pack.name));
          const Sharding sharding(ShardLayout(pack.segments.tokens(), ranks_, layout), pack.segments, world.rank(),
                                  stream);
          body(world, sharding, stream);
        }
    });
  }

  Tensors local(const Stream& stream, const Sharding& sharding, const Tensors& whole) const {
    Tensors rows;
    for (const auto& [name, tensor] : whole)
      rows[name] =
          per_token(name) ? local_rows(stream, sharding, tensor) : converted(stream, tensor, tensor.view().dtype);
    return rows;
  }

  /// y and all gradients of the whole pack: tokens put together, parameters summed over the ranks.
  Values sharded(Communicator& world, const Stream& stream, const Sharding& sharding, const Tensors& whole) const {
    const Tensors out =
        subject_.sharded(context_of(subject_, sharding, world, stream), local(Stream(), sharding, whole));
    std::vector<double> parts;  // of all tensors, for one sum
    std::map<std::string, std::pair<std::size_t, std::size_t>> places;
    for (const auto& [name, tensor] : out) {
      const std::vector<double> part = per_token(name) ? own_part(sharding, tensor) : values_of(tensor);
      places[name] = {parts.size(), part.size()};
      parts.insert(parts.end(), part.begin(), part.end());
    }
    const std::vector<double> all = summed(world, parts);
    Values values;
    for (const auto& [name, place] : places) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(place.first);
      values[name].assign(begin, begin + static_cast<std::ptrdiff_t>(place.second));
    }
    return values;
  }
};
std::string name_of_instance(const testing::TestParamInfo<std::tuple<std::size_t, int, Device>>& instance) {
  const auto& [subject, ranks, device] = instance.param;
  return fmt::format("{}_on_{}{}", every_subject()[subject].name, ranks, suffix_of(device));
}
INSTANTIATE_TEST_SUITE_P(All, EveryStrategy,
                         testing::Combine(testing::Range(std::size_t{0}, every_subject().size()),
                                          testing::ValuesIn(rank_counts), testing::Values(Device::cpu)),
                         name_of_instance);
INSTANTIATE_TEST_SUITE_P(Gpus, EveryStrategy,
                         testing::Combine(testing::Range(std::size_t{0}, every_subject().size()), testing::Values(2, 3),
                                          testing::ValuesIn(gpu_devices())),
                         name_of_instance);

TEST_P(EveryStrategy, EqualsOneRank) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    for (const auto& [dtype, tolerance] :
         {std::pair(DType::f64, 1e-12), std::pair(DType::f32, 1e-5), std::pair(DType::bf16, 1e-2)}) {
      if (dtype == DType::f64 && device_ != Device::cpu) continue;
      const Stream host;
      const Tensors in = subject_.inputs(host, dtype, sharding.layout().tokens(), 40);
      const Tensors expected = subject_.alone(host, sharding.segments(), in);
      for (const auto& [name, values] : sharded(world, stream, sharding, in))
        EXPECT_LE(relative_error(values, values_of(expected.at(name))), tolerance) << name << " in " << name_of(dtype);
    }
  });
}

TEST_P(EveryStrategy, GivesTheSameBitsEveryTime) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local(host, sharding, subject_.inputs(host, DType::bf16, sharding.layout().tokens(), 39));
    const StrategyContext context = context_of(subject_, sharding, world, stream);
    const Tensors first = subject_.sharded(context, in);
    for (const auto& [name, tensor] : subject_.sharded(context, in))
      EXPECT_TRUE(same_bits(tensor, first.at(name))) << name;
  });
}

TEST_P(EveryStrategy, ScoresLikeItTrains) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local(host, sharding, subject_.inputs(host, DType::f32, sharding.layout().tokens(), 41));
    const StrategyContext context = context_of(subject_, sharding, world, stream);
    EXPECT_TRUE(same_bits(subject_.scored(context, in), subject_.sharded(context, in).at("y")));
  });
}

TEST_P(EveryStrategy, BackwardIsTheAdjointOfForward) {
  if (subject_.linear_in.empty()) return;
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local(host, sharding, subject_.inputs(host, precise_, sharding.layout().tokens(), 42));
    const Tensors out = subject_.sharded(context_of(subject_, sharding, world, stream), in);
    const double forward = world.sum(dot(out.at("y"), in.at("d_y"))),
                 backward = world.sum(dot(in.at(subject_.linear_in), out.at("d_" + subject_.linear_in)));
    const double scale =
        std::sqrt(world.sum(dot(out.at("y"), out.at("y"))) * world.sum(dot(in.at("d_y"), in.at("d_y"))));
    EXPECT_LE(std::abs(forward - backward), 0.1 * rounding_ * scale);
  });
}

TEST_P(EveryStrategy, BackwardIsTheDerivativeOfForward) {
  if (device_ != Device::cpu) GTEST_SKIP() << "differences want f64";
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const StrategyContext context = context_of(subject_, sharding, world, stream);
    const Tensors in = subject_.inputs(host, DType::f64, sharding.layout().tokens(), 43);
    // Along one random direction in the space of all inputs: (L(in + εv) - L(in - εv)) / 2ε = ⟨∂L/∂in, v⟩ with L = ⟨y,
    // d_y⟩.
    constexpr double step = 1e-5;
    const auto moved = [&](double by) {
      Tensors rows = subject_.inputs(host, DType::f64, sharding.layout().tokens(), 43);
      for (const auto& [name, tensor] : rows) {
        if (name == "d_y") continue;
        const std::vector<double> direction =
            values_of(random_tensor(host, DType::f64, tensor.view().shape, 44 + name.size()));
        std::vector<double> values = values_of(tensor);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += by * direction[i];
        assign(tensor, values);
      }
      return local(host, sharding, rows);
    };
    const auto loss = [&](double by) {
      const Tensors rows = moved(by);
      return world.sum(dot(subject_.scored(context, rows), rows.at("d_y")));
    };
    const double difference = (loss(step) - loss(-step)) / (2 * step);
    double derivative = 0, scale = 0;
    for (const auto& [name, gradient] : sharded(world, stream, sharding, in)) {
      if (name == "y") continue;
      const TensorView input = in.at(name.substr(2)).view();
      const std::vector<double> direction =
          values_of(random_tensor(host, DType::f64, input.shape, 44 + name.size() - 2));
      derivative += dot(gradient, direction);
      scale += norm(gradient) * norm(direction);
    }
    EXPECT_LE(std::abs(difference - derivative), 1e-7 * (1 + scale));
  });
}

TEST_P(EveryStrategy, PackedEqualsOneDocumentAtATime) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Segments& segments = sharding.segments();
    if (segments.count() < 2 || segments.count() > 8) return;
    const Stream host;
    const Tensors in = subject_.inputs(host, precise_, segments.tokens(), 45);
    Values alone;
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const std::int64_t begin = segments.cu_seqlens()[static_cast<std::size_t>(s)],
                         length = segments.cu_seqlens()[static_cast<std::size_t>(s) + 1] - begin;
      const Sharding own(ShardLayout(length, ranks_, sharding.layout().kind()), Segments::one_document(length),
                         world.rank(), stream);
      Tensors document;
      for (const auto& [name, tensor] : in)
        document[name] = converted(host, per_token(name) ? tensor.view().slice_rows(begin, length) : tensor.view(),
                                   tensor.view().dtype);
      for (const auto& [name, values] : sharded(world, stream, own, document)) {
        std::vector<double>& all = alone[name];
        if (per_token(name)) {
          all.insert(all.end(), values.begin(), values.end());
        } else {
          all.resize(values.size());
          for (std::size_t i = 0; i < values.size(); ++i) all[i] += values[i];
        }
      }
    }
    for (const auto& [name, values] : sharded(world, stream, sharding, in))
      EXPECT_LE(relative_error(values, alone.at(name)), rounding_) << name;
  });
}

TEST_P(EveryStrategy, WhatIsNotANumberStaysInItsDocument) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Segments& segments = sharding.segments();
    if (segments.tokens() == 0) return;
    const Stream host;
    const Tensors clean = subject_.inputs(host, DType::f32, segments.tokens(), 46);
    const Values expected = sharded(world, stream, sharding, clean);
    for (const std::int64_t token : {segments.tokens() / 2, segments.tokens() - 1}) {
      const Tensors poisoned = subject_.inputs(host, DType::f32, segments.tokens(), 46);
      for (const auto& [name, tensor] : poisoned) {
        const float poison =
            name.size() % 2 == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
        if (per_token(name)) tensor.view().row<float>(token)[0] = poison;
      }
      for (const auto& [name, values] : sharded(world, stream, sharding, poisoned)) {
        if (!per_token(name)) continue;
        const std::size_t columns = values.size() / static_cast<std::size_t>(segments.tokens());
        const auto begin = static_cast<std::size_t>(segments.start_of(token)) * columns,
                   end = static_cast<std::size_t>(segments.end_of(token)) * columns;
        std::size_t changed = 0;
        for (std::size_t i = 0; i < values.size(); ++i)
          changed += (i < begin || i >= end) && values[i] != expected.at(name)[i];
        EXPECT_EQ(changed, 0) << name << ", token " << token;
      }
    }
  });
}

TEST_P(EveryStrategy, GivesTheSameBitsOnEverySchedule) {
  if (subject_.schedule == Schedule::automatic) return;
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local(host, sharding, subject_.inputs(host, DType::f32, sharding.layout().tokens(), 47));
    const Tensors automatic = subject_.sharded({sharding, world, stream, Schedule::automatic}, in);
    for (const auto& [name, tensor] : subject_.sharded(context_of(subject_, sharding, world, stream), in))
      EXPECT_TRUE(same_bits(tensor, automatic.at(name))) << name;
  });
}

/// What strategies.md says that this rank sends in a forward pass in f32: exactly, or at most where only rows and
/// states that a document carries over an edge are sent.
struct Bytes {
  std::int64_t count = 0;
  bool exact = true;
  std::int64_t backward = -1;  ///< where a backward pass sends another number
};

/// Tokens to channels and back: what others need of this rank's rows, and of its channels of their rows.
Bytes all_to_all_bytes(const Sharding& sharding, std::int64_t channels, std::int64_t groups, std::int64_t in,
                       std::int64_t out) {
  const std::int64_t N = sharding.layout().ranks(), r = sharding.rank(), T = sharding.layout().tokens(),
                     L = sharding.local_tokens();
  const std::int64_t mine = ((r + 1) * groups / N - r * groups / N) * (channels / groups);
  return {.count = 4 * (in * L * (channels - mine) + out * (T - L) * mine)};
}

/// Of one document: x's transform and its result's, and the filter's where that has `groups` to transform; half of
/// strategies.md's, which has two legs of each; and the rows that this rank holds but not as one of equal shards, and
/// back.
Bytes fft_bytes(const Sharding& sharding, std::int64_t channels, std::int64_t groups) {
  const std::int64_t N = sharding.layout().ranks(), T = sharding.layout().tokens(), r = sharding.rank();
  if (N == 1) return {};
  std::int64_t branches = 0;
  for (std::int64_t n = N, p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p) branches += p - 1;
  const std::int64_t equal = ceil_div(T, N);
  const Range held{r * T / N, (r + 1) * T / N}, shard{std::min(r * equal, T), std::min((r + 1) * equal, T)};
  const std::int64_t both =
      std::max<std::int64_t>(std::min(held.end, shard.end) - std::max(held.begin, shard.begin), 0);
  const std::int64_t transform = branches * 8 * equal, there = 4 * channels * (held.size() - both),
                     back = 4 * channels * (shard.size() - both);
  // Backward x and the filter are transformed again.
  return {.count = transform * (2 * channels + groups) + there + back,
          .exact = false,
          .backward = transform * (3 * channels + 2 * groups) + 2 * there + back};
}

Bytes formula(const Subject& subject, const Tensors& in, const Sharding& sharding) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t chunks = std::ssize(sharding.chunks()), N = layout.ranks(), T = layout.tokens(),
                     L = sharding.local_tokens();
  const auto columns = [&](const char* name) { return in.at(name).view().columns(); };
  const auto rows = [&](const char* name) { return in.at(name).view().rows(); };
  const std::string op = subject.strategy.substr(0, subject.strategy.find(' ')),
                    strategy = subject.strategy.substr(op.size() + 1);
  if (strategy.starts_with("halo")) {
    const char* const taps = op == "causal_conv" ? "weight" : "taps";
    return {.count = chunks * (columns(taps) - 1) * columns("d_y") * 4, .exact = false};
  }
  if (op == "selective_scan" && strategy == "all_to_all") {
    // B and C to everybody; backward their gradients from everybody, d_y in, d_u and d_delta back.
    const std::int64_t D = rows("A"), states = columns("A");
    return {.count = all_to_all_bytes(sharding, D, D, 2, 1).count + 4 * 2 * states * L * (N - 1),
            .backward = all_to_all_bytes(sharding, D, D, 1, 2).count + 4 * 2 * states * (T - L)};
  }
  if (op == "attention") {
    // k and v of a token, or their gradients.
    const std::int64_t both = 2 * columns("d_y") * 4, H = in.at("q").view().shape[1];
    if (strategy == "all_to_all")
      return {.count = all_to_all_bytes(sharding, columns("d_y"), H, 3, 1).count,
              .backward = all_to_all_bytes(sharding, columns("d_y"), H, 1, 3).count};
    // What is owed goes to whose tokens they are, in ring after all blocks have passed on but the right neighbour's.
    if (strategy == "all_gather") return {.count = (N - 1) * L * both, .backward = (T - L) * both};
    const std::int64_t passed = (T - layout.local_tokens((sharding.rank() + 1) % layout.ranks())) * both;
    return {.count = passed, .backward = passed + (T - L) * both};
  }
  if (strategy.starts_with("all_to_all")) {
    const std::int64_t D = columns("d_y");
    return all_to_all_bytes(sharding, D, in.contains("taps") ? rows("taps") : D, 1, 1);
  }
  if (strategy == "state_carry") {
    const char* const parameter = op == "selective_scan" ? "A" : "residues";
    const std::int64_t D = rows(parameter), M = columns(parameter), summary = op == "selective_scan" ? M + 1 : M;
    return {.count = subject.schedule == Schedule::chain ? chunks * 4 * M * D : (N - 1) * chunks * 4 * summary * D,
            .exact = false};
  }
  if (strategy == "fft") return fft_bytes(sharding, columns("d_y"), in.contains("taps") ? rows("taps") : 0);
  ADD_FAILURE() << "how many bytes may " << subject.strategy << " send? Add its formula here";
  return {};
}

TEST_P(EveryStrategy, SendsTheBytesItsFormulaSaysInAsManyMessagesForOneDocumentAsForThousands) {
  on_ranks(ranks_, device_, [&](Communicator& world, const Stream& stream) {
    for (const Layout layout : subject_.layouts) {
      SCOPED_TRACE(name_of(layout));
      // Shards of 256 tokens or a few more, and documents of 5 of which one crosses every edge.
      const ShardLayout shards(2 * 128 * ranks_ + 3, ranks_, layout);
      const std::int64_t tokens = shards.tokens();
      std::vector<std::int64_t> edges{0}, crossing{0};
      for (int c = 1; c < shards.chunk_count(); ++c) edges.push_back(shards.chunk(c).begin);
      for (std::int64_t t = 1; t < tokens; ++t)
        if (t % 5 == 0 && std::find(edges.begin(), edges.end(), t) == edges.end()) crossing.push_back(t);
      crossing.push_back(tokens);
      std::vector<std::int64_t> bytes, messages;
      for (const Segments& segments : {Segments::one_document(tokens), Segments(crossing)}) {
        const Stream host;
        const Sharding sharding(shards, segments, world.rank(), stream);
        const Tensors in = local(host, sharding, subject_.inputs(host, DType::f32, tokens, 48));
        const StrategyContext context = context_of(subject_, sharding, world, stream);
        const Traffic before = world.traffic();
        const Tensor y = subject_.scored(context, in);
        const Traffic after = world.traffic();
        const Tensors out = subject_.sharded(context, in);
        bytes.push_back(after.bytes_sent - before.bytes_sent);
        messages.push_back(world.traffic().messages_sent - before.messages_sent);
        const std::int64_t back = world.traffic().bytes_sent - after.bytes_sent - bytes.back();
        const Bytes expected = formula(subject_, in, sharding);
        EXPECT_LE(bytes.back(), expected.count);
        // The rank in the middle has neighbours on both sides and sends all that the formula allows.
        const bool middle = segments.count() == 1 && world.rank() > 0 && world.rank() + 1 < world.size();
        if (expected.exact || middle) {
          EXPECT_EQ(bytes.back(), expected.count);
          EXPECT_EQ(back, expected.backward >= 0 ? expected.backward : expected.count);
        }
        // What the choice of a strategy counts on is the most that any rank sends.
        const std::int64_t most = world.max(bytes.back());
        const Cost cost = subject_.cost(sharding, in);
        if (subject_.schedule == Schedule::automatic && (expected.exact || (segments.count() == 1 && ranks_ > 2))) {
          EXPECT_EQ(most, cost.bytes_sent);
        }
        EXPECT_EQ(cost.messages == 0, ranks_ == 1 || cost.bytes_sent == 0);
      }
      // fft runs over the ranks a document spans, of which a rank may be at the end of one and the start of another:
      // then there are two transforms, of fewer ranks, and both may have to be laid onto equal shards.
      if (subject_.strategy.ends_with(" fft"))
        EXPECT_LE(messages.back(), 2 * messages.front());
      else
        EXPECT_EQ(messages.front(), messages.back());
      EXPECT_LE(bytes.back(), bytes.front());
    }
  });
}

TEST(StrategyTables, AStrategyIsFoundByItsNameAndTheFirstIsAutomatic) {
  const auto table = selective_scan_strategies();
  for (const SelectiveScanStrategy& row : table) EXPECT_EQ(&find_strategy(table, "selective_scan", row.name), &row);
  EXPECT_EQ(&find_strategy(table, "selective_scan", "auto"), &table.front());
  try {
    find_strategy(table, "selective_scan", "halo");
    FAIL() << "found";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("state_carry"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway::test
