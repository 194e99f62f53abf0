#include "parallel/exchange/distributed_fft.hpp"

#include <algorithm>

#include "kernels/fourier.hpp"

namespace causeway {
namespace {

/// Prime factors, ascending.
std::vector<int> prime_factors(int n) {
  std::vector<int> primes;
  for (int p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p) primes.push_back(p);
  return primes;
}

/// One of the transforms, with this rank's butterflies.
struct PlannedTransform {
  PlannedTransform(const DistributedFft& transform, int rank) : args(transform) {
    const auto found = std::ranges::find(args.ranks, rank);
    ensure(found != args.ranks.end(), "distributed_fft: rank {} is not among the {} ranks of the transform", rank,
           args.ranks.size());
    ensure(args.x.dense(), "distributed_fft: x {} has gaps between its rows, expected a dense tensor",
           args.x.shape.to_string());
    plan = plan_butterflies(static_cast<int>(args.ranks.size()), static_cast<int>(found - args.ranks.begin()));
  }

  std::int64_t rows() const { return args.x.rows(); }

  /// The twiddle factors between the butterflies and the transform of this rank's rows: row s is multiplied by
  /// exp(∓2πi residue·s/(ranks·rows)).
  void twiddle(FftDirection direction, const Stream& stream) const {
    if (plan.residue == 0) return;
    rotate(stream, {.x = args.x,
                    .step = direction == FftDirection::forward ? -plan.residue : plan.residue,
                    .modulus = rows() * std::ssize(args.ranks),
                    .y = args.x});
  }

  void transform_rows(FftDirection direction, const Stream& stream) const {
    fourier_transform(stream, {.length = rows(), .inverse = direction == FftDirection::inverse, .x = args.x});
  }

  DistributedFft args;
  ButterflyPlan plan;
};

/// One stage of one transform: receives the tensors of the other branches, then adds them to x.
struct StageExchange {
  const PlannedTransform& transform;
  const Butterfly& butterfly;
  std::vector<Tensor> received;  ///< by branch; absent for this rank's own

  void start(std::vector<Transfer>& transfers, const Stream& stream) {
    for (int b = 0; b < std::ssize(butterfly.branches); ++b) {
      Tensor& into = received.emplace_back();
      if (b == butterfly.own) continue;
      into = Tensor(stream, transform.args.x.dtype, transform.args.x.shape);
      transfers.push_back(
          {.peer = transform.args.ranks[static_cast<std::size_t>(butterfly.branches[static_cast<std::size_t>(b)].rank)],
           .send = transform.args.x.as_bytes(),
           .recv = into.view().as_bytes()});
    }
  }

  void finish(FftDirection direction, const Stream& stream) const {
    const auto add_rotated = [&](int branch, TensorView from, bool accumulate) {
      const Butterfly::Branch& at = butterfly.branches[static_cast<std::size_t>(branch)];
      rotate(stream, {.x = from,
                      .first = direction == FftDirection::forward ? at.forward : at.inverse,
                      .modulus = butterfly.points,
                      .accumulate = accumulate,
                      .y = transform.args.x});
    };
    add_rotated(butterfly.own, transform.args.x, false);
    for (int b = 0; b < std::ssize(butterfly.branches); ++b)
      if (b != butterfly.own) add_rotated(b, received[static_cast<std::size_t>(b)], true);
  }
};

}  // namespace

ButterflyPlan plan_butterflies(int ranks, int position) {
  ensure(0 <= position && position < ranks, "butterflies: position {} among {} ranks", position, ranks);
  ButterflyPlan plan;
  // After each stage the ranks [begin, begin + points) around this one form a separate transform.
  std::int64_t begin = 0, points = ranks, weight = 1;
  for (const int radix : prime_factors(ranks)) {
    const std::int64_t apart = points / radix, index = position - begin, own = index / apart;
    Butterfly& stage = plan.stages.emplace_back();
    stage.points = points;
    stage.own = static_cast<int>(own);
    for (std::int64_t branch = 0; branch < radix; ++branch) {
      const std::int64_t peer = branch * apart + index % apart;
      stage.branches.push_back({.rank = static_cast<int>(begin + peer),
                                .forward = -(peer * own) % points,
                                .inverse = index * branch % points});
    }
    plan.residue += own * weight;
    weight *= radix;
    begin += own * apart;
    points = apart;
  }
  return plan;
}

void distributed_fft(std::span<const DistributedFft> transforms, FftDirection direction, Communicator& ranks,
                     const Stream& stream) {
  std::vector<PlannedTransform> running;
  std::size_t steps = 0;
  for (const DistributedFft& transform : transforms) {
    if (transform.x.size() == 0) continue;
    steps = std::max(steps, running.emplace_back(transform, ranks.rank()).plan.stages.size());
  }
  if (direction == FftDirection::inverse)
    for (const PlannedTransform& one : running) {
      one.transform_rows(direction, stream);
      one.twiddle(direction, stream);
    }
  for (std::size_t step = 0; step < steps; ++step) {
    std::vector<StageExchange> stages;
    for (const PlannedTransform& one : running) {
      const auto& own = one.plan.stages;
      if (step >= own.size()) continue;
      stages.push_back({one, direction == FftDirection::forward ? own[step] : own[own.size() - 1 - step], {}});
    }
    std::vector<Transfer> transfers;
    for (StageExchange& stage : stages) stage.start(transfers, stream);
    ranks.exchange(transfers, stream);
    for (const StageExchange& stage : stages) stage.finish(direction, stream);
  }
  if (direction == FftDirection::forward)
    for (const PlannedTransform& one : running) {
      one.twiddle(direction, stream);
      one.transform_rows(direction, stream);
    }
}

std::int64_t distributed_fft_bytes(int ranks, std::int64_t rows, std::int64_t channels, DType accumulator) {
  std::int64_t peers = 0;
  for (const int radix : prime_factors(ranks)) peers += radix - 1;
  return peers * rows * channels * 2 * size_of(accumulator);
}

}  // namespace causeway
