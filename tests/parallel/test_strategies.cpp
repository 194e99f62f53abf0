#include "kernels/core/integer.hpp"
#include "parallel/strategy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/parallel/strategy_cases.hpp"
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

/// Runs forward and backward of a case over the ranks; returns y and all gradients of the whole pack: rows of tokens
/// gathered, gradients of parameters summed over the ranks.
Values run_and_gather(const StrategyCase& strategy, Communicator& world, const Stream& stream, const Sharding& sharding,
                      const Tensors& whole) {
  const Tensors out =
      strategy.run(context_of(strategy, sharding, world, stream), local_inputs(Stream(), sharding, whole));
  std::vector<double> parts;                                           // of all tensors, so that one sum is enough
  std::map<std::string, std::pair<std::size_t, std::size_t>> extents;  // begin and size in `parts`
  for (const auto& [name, tensor] : out) {
    const std::vector<double> part = per_token(name) ? own_part(sharding, tensor) : values_of(tensor);
    extents[name] = {parts.size(), part.size()};
    parts.insert(parts.end(), part.begin(), part.end());
  }
  const std::vector<double> all = summed(world, parts);
  Values values;
  for (const auto& [name, extent] : extents) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(extent.first);
    values[name].assign(begin, begin + static_cast<std::ptrdiff_t>(extent.second));
  }
  return values;
}

/// All cases on all numbers of ranks and all devices.
class EveryStrategy : public testing::TestWithParam<std::tuple<std::size_t, int, Device>> {
 protected:
  StrategyCase case_ = every_strategy_case()[std::get<0>(GetParam())];
  int ranks_ = std::get<1>(GetParam());
  Device device_ = std::get<2>(GetParam());
  /// The most precise dtype of the device, and the difference allowed between two ways to compute the same sum.
  DType precise_ = device_ == Device::cpu ? DType::f64 : DType::f32;
  double rounding_ = device_ == Device::cpu ? 1e-12 : 1e-5;

  /// Runs body(world, sharding, stream) on all ranks for every awkward pack in every layout of the strategy.
  template <class Body>
  void for_every_pack(Body body) {
    on_ranks(ranks_, device_, [&](Communicator& world, const Stream& stream) {
      for (const Layout layout : case_.layouts)
        for (const NamedPack& pack : awkward_packs(ranks_, layout)) {
          SCOPED_TRACE(fmt::format("{}, {}", name_of(layout), pack.name));
          const Sharding sharding(ShardLayout(pack.segments.tokens(), ranks_, layout), pack.segments, world.rank(),
                                  stream);
          body(world, sharding, stream);
        }
    });
  }
};
std::string name_of_instance(const testing::TestParamInfo<std::tuple<std::size_t, int, Device>>& instance) {
  const auto& [index, ranks, device] = instance.param;
  return fmt::format("{}_on_{}{}", every_strategy_case()[index].name, ranks, suffix_of(device));
}
INSTANTIATE_TEST_SUITE_P(All, EveryStrategy,
                         testing::Combine(testing::Range(std::size_t{0}, every_strategy_case().size()),
                                          testing::ValuesIn(rank_counts), testing::Values(Device::cpu)),
                         name_of_instance);
INSTANTIATE_TEST_SUITE_P(Gpus, EveryStrategy,
                         testing::Combine(testing::Range(std::size_t{0}, every_strategy_case().size()),
                                          testing::Values(2, 3, 8), testing::ValuesIn(gpu_devices())),
                         name_of_instance);

/// The norm that the sums of a result have if their terms are added as squares: with squared inputs, which a block with
/// taps is linear in, a result is the sum of its squared terms. Errors of rounded terms are a part of this norm, also
/// where the terms cancel, as in d_taps of a short pack.
Values norms_of_terms(const StrategyCase& strategy, const Segments& segments, const Tensors& in) {
  const Stream host;
  Tensors squares;
  for (const auto& [name, tensor] : in) {
    std::vector<double> values = values_of(tensor);
    for (double& x : values) x *= x;
    squares[name] = tensor_of(host, DType::f64, tensor.view().shape, values);
  }
  Values norms;
  for (const auto& [name, tensor] : strategy.run_on_one_rank(host, segments, squares)) {
    norms[name] = values_of(tensor);
    for (double& x : norms[name]) x = std::sqrt(x);
  }
  return norms;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

TEST_P(EveryStrategy, EqualsOneRank) {
  // Fused kernels do not round what lies between the operators of a block, so no result has the other's error: one way
  // has up to 8 roundings, the other up to 3, each of at most 2^-7/√12 (root mean square), 7.5e-3 together. Twice that,
  // because a short pack has only a few sums.
  const bool rounds_otherwise = device_ != Device::cpu && case_.strategy.starts_with("hyena_block");
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    for (const auto& [dtype, tolerance] :
         {std::pair(DType::f64, 1e-12), std::pair(DType::f32, 1e-5), std::pair(DType::bf16, 1e-2)}) {
      if (dtype == DType::f64 && device_ != Device::cpu) continue;
      const Stream host;
      const Tensors in = case_.inputs(host, dtype, sharding.layout().tokens(), 40);
      const Tensors expected = case_.run_on_one_rank(host, sharding.segments(), in);
      const bool by_terms = rounds_otherwise && dtype == DType::bf16 && in.contains("taps");
      const Values norms = by_terms ? norms_of_terms(case_, sharding.segments(), in) : Values();
      for (const auto& [name, values] : run_and_gather(case_, world, stream, sharding, in)) {
        const std::vector<double> want = values_of(expected.at(name));
        if (by_terms)
          EXPECT_LE(distance(values, want), 1.5e-2 * std::sqrt(dot(norms.at(name), norms.at(name)))) << name;
        else
          EXPECT_LE(relative_error(values, want), tolerance) << name << " in " << name_of(dtype);
      }
    }
  });
}

TEST_P(EveryStrategy, GivesTheSameBitsEveryTime) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local_inputs(host, sharding, case_.inputs(host, DType::bf16, sharding.layout().tokens(), 39));
    const StrategyContext context = context_of(case_, sharding, world, stream);
    const Tensors first = case_.run(context, in);
    for (const auto& [name, tensor] : case_.run(context, in)) EXPECT_TRUE(same_bits(tensor, first.at(name))) << name;
  });
}

TEST_P(EveryStrategy, ForwardWithoutSavingGivesTheSameBits) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local_inputs(host, sharding, case_.inputs(host, DType::f32, sharding.layout().tokens(), 41));
    const StrategyContext context = context_of(case_, sharding, world, stream);
    EXPECT_TRUE(same_bits(case_.run_forward(context, in), case_.run(context, in).at("y")));
  });
}

TEST_P(EveryStrategy, BackwardIsTheAdjointOfForward) {
  if (case_.linear_in.empty()) return;
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local_inputs(host, sharding, case_.inputs(host, precise_, sharding.layout().tokens(), 42));
    const Tensors out = case_.run(context_of(case_, sharding, world, stream), in);
    const double forward = world.sum(dot(out.at("y"), in.at("d_y"))),
                 backward = world.sum(dot(in.at(case_.linear_in), out.at("d_" + case_.linear_in)));
    const double scale =
        std::sqrt(world.sum(dot(out.at("y"), out.at("y"))) * world.sum(dot(in.at("d_y"), in.at("d_y"))));
    EXPECT_LE(std::abs(forward - backward), 0.1 * rounding_ * scale);
  });
}

/// A random direction for one input, of which the seed is a hash of the input's name (FNV-1a): inputs of equal shape
/// get different directions, so that exchanged gradients are detected.
std::vector<double> direction_of(const std::string& input, Shape shape) {
  std::uint64_t seed = 0xcbf29ce484222325;
  for (const char c : input) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return values_of(random_tensor(Stream(), DType::f64, shape, seed));
}

/// The loss L = ⟨y, d_y⟩, or ⟨y, d_y + a·b⟩, of a case along one direction v in the space of all inputs.
class LossAlongDirection {
 public:
  LossAlongDirection(const StrategyCase& strategy, Communicator& world, const Sharding& sharding, const Stream& stream)
      : strategy_(strategy),
        world_(world),
        sharding_(sharding),
        stream_(stream),
        inputs_(strategy.inputs(Stream(), DType::f64, sharding.layout().tokens(), 43)) {}

  Values gradients() const { return run_and_gather(strategy_, world_, stream_, sharding_, inputs_); }

  /// |(L(in + εv) - L(in - εv)) / 2ε - ⟨gradients, v⟩|, divided by the error that the difference quotient may have:
  /// above 1 the gradients are wrong. Collective.
  double mismatch(const Values& gradients) const {
    constexpr double step = 1e-5;
    const double difference = (loss(step) - loss(-step)) / (2 * step);
    double derivative = 0, scale = 0;
    for (const auto& [name, gradient] : gradients) {
      if (name == "y") continue;
      const std::string input = name.substr(2);
      const std::vector<double> direction = direction_of(input, inputs_.at(input).view().shape);
      derivative += dot(gradient, direction);
      scale += norm(gradient) * norm(direction);
    }
    return std::abs(difference - derivative) / (1e-7 * (1 + scale));
  }

 private:
  double loss(double step) const {
    const Stream host;
    Tensors moved;
    for (const auto& [name, tensor] : inputs_) {
      moved[name] = converted(host, tensor, DType::f64);
      if (name == "d_y" || name == "a" || name == "b") continue;
      const std::vector<double> direction = direction_of(name, tensor.view().shape);
      std::vector<double> values = values_of(tensor);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * direction[i];
      assign(moved[name], values);
    }
    const Tensors rows = local_inputs(host, sharding_, moved);
    if (rows.contains("a")) gemm(host, {.a = rows.at("a"), .b = rows.at("b"), .beta = 1, .c = rows.at("d_y")});
    return world_.sum(
        dot(strategy_.run_forward(context_of(strategy_, sharding_, world_, stream_), rows), rows.at("d_y")));
  }

  const StrategyCase& strategy_;
  Communicator& world_;
  const Sharding& sharding_;
  const Stream& stream_;
  Tensors inputs_;
};

TEST_P(EveryStrategy, BackwardIsTheDerivativeOfForward) {
  if (device_ != Device::cpu) GTEST_SKIP() << "difference quotients need f64";
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const LossAlongDirection loss(case_, world, sharding, stream);
    EXPECT_LE(loss.mismatch(loss.gradients()), 1);
  });
}

TEST(DerivativeOfForward, SwappedGradientsOfEqualShapeAreDetected) {
  const int ranks = 3;
  on_ranks(ranks, [&](Communicator& world) {
    const Stream stream;
    int checked = 0;
    for (const StrategyCase& strategy : every_strategy_case()) {
      if (!strategy.strategy.starts_with("selective_scan ")) continue;
      SCOPED_TRACE(strategy.name);
      const std::int64_t tokens = 23 * ranks;
      const Sharding sharding(ShardLayout(tokens, ranks, Layout::contiguous), Segments::one_document(tokens),
                              world.rank());
      const LossAlongDirection loss(strategy, world, sharding, stream);
      Values gradients = loss.gradients();
      EXPECT_LE(loss.mismatch(gradients), 1);
      std::swap(gradients.at("d_B"), gradients.at("d_C"));
      EXPECT_GT(loss.mismatch(gradients), 1000);
      ++checked;
    }
    EXPECT_GE(checked, 2) << "state_carry and all_to_all";
  });
}

TEST_P(EveryStrategy, PackedEqualsOneDocumentAtATime) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Segments& segments = sharding.segments();
    if (segments.count() < 2 || segments.count() > 8) return;
    const Stream host;
    const Tensors in = case_.inputs(host, precise_, segments.tokens(), 45);
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
      for (const auto& [name, values] : run_and_gather(case_, world, stream, own, document)) {
        std::vector<double>& all = alone[name];
        if (per_token(name)) {
          all.insert(all.end(), values.begin(), values.end());
        } else {
          all.resize(values.size());
          for (std::size_t i = 0; i < values.size(); ++i) all[i] += values[i];
        }
      }
    }
    for (const auto& [name, values] : run_and_gather(case_, world, stream, sharding, in))
      EXPECT_LE(relative_error(values, alone.at(name)), rounding_) << name;
  });
}

TEST_P(EveryStrategy, NaNAndInfinityStayInTheirDocument) {
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Segments& segments = sharding.segments();
    if (segments.tokens() == 0) return;
    const Stream host;
    const Tensors clean = case_.inputs(host, DType::f32, segments.tokens(), 46);
    const Values expected = run_and_gather(case_, world, stream, sharding, clean);
    for (const std::int64_t token : {segments.tokens() / 2, segments.tokens() - 1}) {
      const Tensors poisoned = case_.inputs(host, DType::f32, segments.tokens(), 46);
      for (const auto& [name, tensor] : poisoned) {
        const float poison =
            name.size() % 2 == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
        if (per_token(name)) tensor.view().row<float>(token)[0] = poison;
      }
      for (const auto& [name, values] : run_and_gather(case_, world, stream, sharding, poisoned)) {
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

TEST_P(EveryStrategy, GivesTheSameBitsWithChainAndGather) {
  if (case_.schedule != Schedule::chain && case_.schedule != Schedule::gather) return;
  for_every_pack([&](Communicator& world, const Sharding& sharding, const Stream& stream) {
    const Stream host;
    const Tensors in = local_inputs(host, sharding, case_.inputs(host, DType::f32, sharding.layout().tokens(), 47));
    const Tensors automatic = case_.run({sharding, world, stream, Schedule::automatic}, in);
    for (const auto& [name, tensor] : case_.run(context_of(case_, sharding, world, stream), in))
      EXPECT_TRUE(same_bits(tensor, automatic.at(name))) << name;
  });
}

/// The bytes that this rank sends in a forward pass in f32, by the formulas of parallel/strategies/README.md.
struct Bytes {
  std::int64_t count = 0;
  bool exact = true;           ///< false: an upper bound, because only rows and states that cross an edge are sent
  std::int64_t backward = -1;  ///< of the backward pass; -1: the same
};

/// From tokens to channels and back: the other ranks' channels of this rank's rows, and its channels of their rows.
Bytes all_to_all_bytes(const Sharding& sharding, std::int64_t channels, std::int64_t groups, std::int64_t in,
                       std::int64_t out) {
  const std::int64_t N = sharding.layout().ranks(), r = sharding.rank(), T = sharding.layout().tokens(),
                     L = sharding.local_tokens();
  const std::int64_t mine = ((r + 1) * groups / N - r * groups / N) * (channels / groups);
  return {.count = 4 * (in * L * (channels - mine) + out * (T - L) * mine)};
}

/// For one document: the transforms of x, of the result and of the filter (if it has `groups` to transform), and the
/// rows that move onto equal shards and back.
Bytes fft_bytes(const Sharding& sharding, std::int64_t channels, std::int64_t groups) {
  const std::int64_t N = sharding.layout().ranks(), T = sharding.layout().tokens(), r = sharding.rank();
  if (N == 1) return {};
  std::int64_t branches = 0;
  for (std::int64_t n = N, p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p) branches += p - 1;
  const std::int64_t equal = ceil_div(T, N);
  const Range held{r * T / N, (r + 1) * T / N}, shard{std::min(r * equal, T), std::min((r + 1) * equal, T)};
  const std::int64_t kept =
      std::max<std::int64_t>(std::min(held.end, shard.end) - std::max(held.begin, shard.begin), 0);
  const std::int64_t transform = branches * 8 * equal, to = 4 * channels * (held.size() - kept),
                     back = 4 * channels * (shard.size() - kept);
  // Backward transforms x and the filter again.
  return {.count = transform * (2 * channels + groups) + to + back,
          .exact = false,
          .backward = transform * (3 * channels + 2 * groups) + 2 * to + back};
}

Bytes formula(const StrategyCase& tested, const Tensors& in, const Sharding& sharding) {
  const ShardLayout& layout = sharding.layout();
  const std::int64_t chunks = std::ssize(sharding.chunks()), N = layout.ranks(), T = layout.tokens(),
                     L = sharding.local_tokens();
  const auto columns = [&](const char* name) { return in.at(name).view().columns(); };
  const auto rows = [&](const char* name) { return in.at(name).view().rows(); };
  const std::string op = tested.strategy.substr(0, tested.strategy.find(' ')),
                    strategy = tested.strategy.substr(op.size() + 1);
  if (op == "hyena_block" && strategy.starts_with("halo")) {
    // The rows of q, k and v for both filters; or those for the featurizer, and the states.
    const std::int64_t W = columns("featurizer"), D = columns("q");
    if (in.contains("taps")) return {.count = chunks * (W - 1 + columns("taps") - 1) * 3 * D * 4, .exact = false};
    const std::int64_t states = columns("residues") * D * 4;
    return {.count = chunks * (W - 1) * 3 * D * 4 + (tested.schedule == Schedule::gather ? N - 1 : 1) * chunks * states,
            .exact = false};
  }
  if (strategy.starts_with("halo")) {
    const char* const taps = op == "causal_conv" ? "weight" : "taps";
    return {.count = chunks * (columns(taps) - 1) * columns("d_y") * 4, .exact = false};
  }
  if (op == "selective_scan" && strategy == "all_to_all") {
    // Forward gathers B and C on every rank; backward reduces their gradients, d_y goes to channels, d_u and d_delta
    // back.
    const std::int64_t D = rows("A"), states = columns("A");
    return {.count = all_to_all_bytes(sharding, D, D, 2, 1).count + 4 * 2 * states * L * (N - 1),
            .backward = all_to_all_bytes(sharding, D, D, 1, 2).count + 4 * 2 * states * (T - L)};
  }
  if (op == "attention") {
    // The bytes of k and v of a token, or of their gradients.
    const std::int64_t both = 2 * columns("d_y") * 4, H = in.at("q").view().shape[1];
    if (strategy == "all_to_all")
      return {.count = all_to_all_bytes(sharding, columns("d_y"), H, 3, 1).count,
              .backward = all_to_all_bytes(sharding, columns("d_y"), H, 1, 3).count +
                          all_to_all_bytes(sharding, H, H, 1, 0).count};  // delta
    // Gradients go directly to the owners of the keys; in ring every block except the right neighbour's is passed on.
    if (strategy == "all_gather") return {.count = (N - 1) * L * both, .backward = (T - L) * both};
    const std::int64_t passed = (T - layout.local_tokens((sharding.rank() + 1) % layout.ranks())) * both;
    return {.count = passed, .backward = passed + (T - L) * both};
  }
  if (strategy.starts_with("all_to_all")) {
    const std::int64_t D = columns("d_y");
    if (op == "hyena_block") {
      const std::int64_t groups = in.contains("taps") ? rows("taps") : D;
      return {.count = all_to_all_bytes(sharding, D, groups, 3, 1).count,
              .backward = all_to_all_bytes(sharding, D, groups, 1, 3).count};
    }
    return all_to_all_bytes(sharding, D, in.contains("taps") ? rows("taps") : D, 1, 1);
  }
  if (strategy == "state_carry") {
    const char* const parameter = op == "selective_scan" ? "A" : "residues";
    const std::int64_t D = rows(parameter), M = columns(parameter), summary = op == "selective_scan" ? M + 1 : M;
    return {.count = tested.schedule == Schedule::gather ? (N - 1) * chunks * 4 * summary * D : chunks * 4 * M * D,
            .exact = false};
  }
  if (strategy == "fft") return fft_bytes(sharding, columns("d_y"), in.contains("taps") ? rows("taps") : 0);
  ADD_FAILURE() << "add the formula of the bytes that " << tested.strategy << " sends here";
  return {};
}

TEST_P(EveryStrategy, SendsTheBytesOfItsFormulaAndAsManyMessagesForOneDocumentAsForMany) {
  on_ranks(ranks_, device_, [&](Communicator& world, const Stream& stream) {
    for (const Layout layout : case_.layouts) {
      SCOPED_TRACE(name_of(layout));
      // Shards of 256 tokens or a few more; documents of 5 tokens, one of which crosses each edge.
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
        const Tensors in = local_inputs(host, sharding, case_.inputs(host, DType::f32, tokens, 48));
        const StrategyContext context = context_of(case_, sharding, world, stream);
        const Traffic before = world.traffic();
        const Tensor y = case_.run_forward(context, in);
        const Traffic after = world.traffic();
        const Tensors out = case_.run(context, in);
        bytes.push_back(after.bytes_sent - before.bytes_sent);
        messages.push_back(world.traffic().messages_sent - before.messages_sent);
        const std::int64_t back = world.traffic().bytes_sent - after.bytes_sent - bytes.back();
        const Bytes expected = formula(case_, in, sharding);
        EXPECT_LE(bytes.back(), expected.count);
        // A rank between two others sends all that the formula allows.
        const bool middle = segments.count() == 1 && world.rank() > 0 && world.rank() + 1 < world.size();
        if (expected.exact || middle) {
          EXPECT_EQ(bytes.back(), expected.count);
          EXPECT_EQ(back, expected.backward >= 0 ? expected.backward : expected.count);
        }
        // The cost function, which the choice of a strategy uses, gives the largest number of bytes of any rank.
        const std::int64_t most = world.max(bytes.back());
        const Cost cost = case_.cost(sharding, in);
        if (case_.schedule == Schedule::automatic && (expected.exact || (segments.count() == 1 && ranks_ > 2))) {
          EXPECT_EQ(most, cost.bytes_sent);
        }
        EXPECT_EQ(cost.rounds == 0, ranks_ == 1 || cost.bytes_sent == 0);
      }
      // fft runs over the ranks that hold tokens of a document. A rank may be the last of one document and the first of
      // another: then it takes part in two transforms, of fewer ranks, and both may need equal shards.
      if (case_.strategy.ends_with(" fft"))
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
    FAIL() << "selective_scan has no strategy halo";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("state_carry"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace causeway::test
