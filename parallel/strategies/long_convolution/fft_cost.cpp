/// The cost functions of the strategy fft.

#include <algorithm>
#include <optional>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/layout/span_plan.hpp"
#include "parallel/strategies/long_convolution/fft_slices.hpp"
#include "parallel/strategy.hpp"

namespace causeway::long_convolution::fft {
namespace {

/// The costs for one document over all ranks: two transforms of D channels, one of the filter's G groups if the filter
/// is transformed, and the moves onto equal shards and back (none if T is divisible by N). Backward transforms the
/// inputs again, and the gradient of the filter.
PassCosts fft_costs(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups, bool filter_transformed,
                    const std::optional<TimedKernel>& spectrum) {
  const std::int64_t D = in.v.columns(), T = sharding.layout().tokens();
  const ShardLayout layout(T, sharding.layout().ranks(), Layout::contiguous);
  const Segments document = Segments::one_document(T);
  if (T == 0 || D == 0) return {};
  const double tokens = static_cast<double>(equal_shard(layout)), channels = static_cast<double>(D);
  const DType wide = accumulator_of(in.v.dtype);
  const auto pass = [&](int transforms, int filter_transforms) {
    Cost cost;
    std::int64_t stages = 0, equal_shard_moves = 0;
    double branches = 0;
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const SpanPlan plan = plan_spans(layout, document, rank);
      for (const SpanningDocument& span : plan.spanning) {
        const int N = static_cast<int>(std::ssize(span.ranks));
        const auto bytes = [&](std::int64_t width) { return distributed_fft_bytes(N, span.shard(), width, wide); };
        const std::int64_t moved = (span.rows_sent() + span.rows_sent_back()) * D * size_of(in.v.dtype);
        cost.bytes_sent = std::max(cost.bytes_sent, transforms * bytes(D) + filter_transforms * bytes(groups) + moved);
        if (moved > 0) equal_shard_moves = 2;
        const ButterflyPlan butterflies = plan_butterflies(N, span.position);
        stages = std::ssize(butterflies.stages);
        branches = 0;
        for (const Butterfly& stage : butterflies.stages) branches += static_cast<double>(stage.branches.size());
      }
    }
    if (stages == 0) {  // one rank holds the whole document
      cost.kernels.push_back({.kernel = fft_kernel(T, D, groups), .elements = tokens * channels});
      return cost;
    }
    const double points = tokens * (transforms * channels + filter_transforms * static_cast<double>(groups)),
                 point_bytes = 2 * static_cast<double>(size_of(wide));
    const auto slices = static_cast<double>(slices_of(layout, D, in.v.dtype));
    cost.kernels.push_back({.kernel = transform_kernel(equal_shard(layout)),
                            .elements = points,
                            .calls = slices * (transforms + filter_transforms)});
    if (spectrum)
      cost.kernels.push_back({.kernel = *spectrum, .elements = tokens * static_cast<double>(groups), .calls = slices});
    // Twist, twiddle factors and the branches of the butterflies; then products with the filter.
    cost.kernels.push_back({.kernel = rotation_kernel(),
                            .elements = points * (branches + 2),
                            .calls = slices * (transforms + filter_transforms) * (branches + 2)});
    cost.copied_bytes = 3 * points * point_bytes;
    cost.copies = slices * (transforms + filter_transforms) * 2;
    cost.messages = static_cast<std::int64_t>(slices) * (2 * stages + equal_shard_moves);
    return cost;
  };
  PassCosts costs{.forward = pass(2, filter_transformed ? 1 : 0), .backward = pass(3, filter_transformed ? 2 : 0)};
  costs.backward = adjoint(costs.backward);
  costs.repeated = costs.forward;
  return costs;
}

}  // namespace

PassCosts cost(const Sharding& sharding, const ModalConvForward& args) {
  return fft_costs(sharding, args.in, args.residues.rows(), false, spectrum_of(args));
}
PassCosts cost(const Sharding& sharding, const FftConvForward& args) {
  return fft_costs(sharding, args.in, args.taps.rows(), true, std::nullopt);
}

}  // namespace causeway::long_convolution::fft
