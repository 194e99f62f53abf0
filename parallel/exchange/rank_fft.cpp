#include "parallel/exchange/rank_fft.hpp"

#include <algorithm>

#include "kernels/fourier.hpp"

namespace causeway {
namespace {

/// Prime factors, ascending.
std::vector<int> factors(int n) {
  std::vector<int> primes;
  for (int p = 2; n > 1; ++p)
    for (; n % p == 0; n /= p) primes.push_back(p);
  return primes;
}

/// One of the transforms on its way through the stages.
struct Running {
  Running(const RankFft& transform, int rank) : args(transform) {
    const auto found = std::ranges::find(args.ranks, rank);
    ensure(found != args.ranks.end(), "rank {} in a transform of {} others", rank, args.ranks.size());
    ensure(args.x.dense(), "a transform of {} with gaps between its rows", args.x.shape.to_string());
    plan = plan_butterflies(static_cast<int>(args.ranks.size()), static_cast<int>(found - args.ranks.begin()));
  }

  std::int64_t rows() const { return args.x.rows(); }

  /// Between the butterflies and the ranks' own transforms: frequency residue of row s turns by residue·s points.
  void twiddle(Fourier direction, const Stream& stream) const {
    if (plan.residue == 0) return;
    rotate(stream, {.x = args.x,
                    .step = direction == Fourier::forward ? -plan.residue : plan.residue,
                    .modulus = rows() * std::ssize(args.ranks),
                    .y = args.x});
  }

  void transform_rows(Fourier direction, const Stream& stream) const {
    fourier_transform(stream, {.length = rows(), .inverse = direction == Fourier::inverse, .x = args.x});
  }

  RankFft args;
  ButterflyPlan plan;
};

/// One stage of one transform: what the other branches send, and the sum.
struct Stage {
  const Running& of;
  const Butterfly& butterfly;
  std::vector<Tensor> received;  ///< by branch; none for the own

  void start(std::vector<Transfer>& transfers, const Stream& stream) {
    for (int b = 0; b < std::ssize(butterfly.branches); ++b) {
      Tensor& into = received.emplace_back();
      if (b == butterfly.own) continue;
      into = Tensor(stream, of.args.x.dtype, of.args.x.shape);
      transfers.push_back(
          {.peer = of.args.ranks[static_cast<std::size_t>(butterfly.branches[static_cast<std::size_t>(b)].rank)],
           .send = of.args.x.as_bytes(),
           .recv = into.view().as_bytes()});
    }
  }

  void finish(Fourier direction, const Stream& stream) const {
    const auto turn = [&](int branch, TensorView from, bool accumulate) {
      const Butterfly::Branch& at = butterfly.branches[static_cast<std::size_t>(branch)];
      rotate(stream, {.x = from,
                      .first = direction == Fourier::forward ? at.forward : at.inverse,
                      .modulus = butterfly.points,
                      .accumulate = accumulate,
                      .y = of.args.x});
    };
    turn(butterfly.own, of.args.x, false);
    for (int b = 0; b < std::ssize(butterfly.branches); ++b)
      if (b != butterfly.own) turn(b, received[static_cast<std::size_t>(b)], true);
  }
};

}  // namespace

ButterflyPlan plan_butterflies(int ranks, int position) {
  ensure(0 <= position && position < ranks, "position {} of {} ranks", position, ranks);
  ButterflyPlan plan;
  // The group this rank is in: ranks [begin, begin + points).
  std::int64_t begin = 0, points = ranks, weight = 1;
  for (const int radix : factors(ranks)) {
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

void rank_fft(std::span<const RankFft> transforms, Fourier direction, Communicator& ranks, const Stream& stream) {
  std::vector<Running> running;
  std::size_t steps = 0;
  for (const RankFft& transform : transforms) {
    if (transform.x.size() == 0) continue;
    steps = std::max(steps, running.emplace_back(transform, ranks.rank()).plan.stages.size());
  }
  if (direction == Fourier::inverse)
    for (const Running& one : running) {
      one.transform_rows(direction, stream);
      one.twiddle(direction, stream);
    }
  for (std::size_t step = 0; step < steps; ++step) {
    std::vector<Stage> stages;
    for (const Running& one : running) {
      const auto& own = one.plan.stages;
      if (step >= own.size()) continue;
      stages.push_back({one, direction == Fourier::forward ? own[step] : own[own.size() - 1 - step], {}});
    }
    std::vector<Transfer> transfers;
    for (Stage& stage : stages) stage.start(transfers, stream);
    ranks.exchange(transfers, stream);
    for (const Stage& stage : stages) stage.finish(direction, stream);
  }
  if (direction == Fourier::forward)
    for (const Running& one : running) {
      one.twiddle(direction, stream);
      one.transform_rows(direction, stream);
    }
}

std::int64_t rank_fft_bytes(int ranks, std::int64_t rows, std::int64_t channels, DType accumulator) {
  std::int64_t peers = 0;
  for (const int radix : factors(ranks)) peers += radix - 1;
  return peers * rows * channels * 2 * size_of(accumulator);
}

}  // namespace causeway
