/// The cost functions of the strategy fft.

#include <algorithm>
#include <cmath>

#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/layout/span_plan.hpp"
#include "parallel/strategies/long_convolution/fft_slices.hpp"
#include "parallel/strategies/operations.hpp"
#include "parallel/strategy.hpp"

namespace causeway::long_convolution::fft {
namespace {

/// The cost for one document over all ranks: two transforms of D channels, one of the filter's G groups if the filter
/// is transformed, and the moves onto equal shards and back (none if T is divisible by N).
Cost fft_cost(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups, bool filter_transformed,
              double filter_operations) {
  const std::int64_t D = in.v.columns(), T = sharding.layout().tokens();
  const ShardLayout layout(T, sharding.layout().ranks(), Layout::contiguous);
  const Segments document = Segments::one_document(T);
  Cost cost;
  if (T == 0 || D == 0) return cost;
  const double tokens = static_cast<double>(equal_shard(layout)), channels = static_cast<double>(D),
               columns = channels + (filter_transformed ? static_cast<double>(groups) / 2 : 0);
  std::int64_t stages = 0, equal_shard_moves = 0;
  double rotations = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const SpanPlan plan = plan_spans(layout, document, rank);
    for (const SpanningDocument& span : plan.spanning) {
      const int N = static_cast<int>(std::ssize(span.ranks));
      const auto bytes = [&](std::int64_t width) {
        return distributed_fft_bytes(N, span.shard(), width, accumulator_of(in.v.dtype));
      };
      const std::int64_t moved = (span.rows_sent() + span.rows_sent_back()) * D * size_of(in.v.dtype);
      cost.bytes_sent = std::max(cost.bytes_sent, 2 * bytes(D) + (filter_transformed ? bytes(groups) : 0) + moved);
      if (moved > 0) equal_shard_moves = 2;
      const ButterflyPlan butterflies = plan_butterflies(N, span.position);
      stages = std::ssize(butterflies.stages);
      rotations = 0;
      for (const Butterfly& stage : butterflies.stages) rotations += 4 * static_cast<double>(stage.branches.size());
    }
  }
  if (stages == 0) {  // one rank holds the whole document
    cost.operations = tokens * channels * fft_conv_operations(T);
    return cost;
  }
  // Forward and inverse: a complex transform of the shard, the butterflies, the twiddle factors and twists.
  cost.operations =
      tokens * (columns * 2 * (2.5 * std::log2(tokens + 1) + rotations + 8) + channels * (4 + filter_operations));
  cost.messages = slices_of(layout, D, in.v.dtype) * (2 * stages + equal_shard_moves);
  return cost;
}

}  // namespace

Cost cost(const Sharding& sharding, const ModalConvForward& args) {
  // The spectrum is a complex division for every mode and frequency.
  return fft_cost(sharding, args.in, args.residues.rows(), false, 20 * static_cast<double>(args.residues.columns()));
}
Cost cost(const Sharding& sharding, const FftConvForward& args) {
  return fft_cost(sharding, args.in, args.taps.rows(), true, 0);
}

}  // namespace causeway::long_convolution::fft
