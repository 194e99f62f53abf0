/// The cost functions of the strategy fft.

#include <algorithm>
#include <cmath>
#include <optional>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/strategies/long_convolution/fft_slices.hpp"
#include "parallel/strategy.hpp"

namespace causeway::long_convolution::fft {
namespace {

/// Rows that the rank with most of them sends onto equal shards of so many rows and back (SpanningDocument): those of
/// its chunk that are not in its equal shard, and of its equal shard those that are not in its chunk.
std::int64_t most_rows_moved(const ShardLayout& layout, std::int64_t rows) {
  std::int64_t most = 0, begin = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const Range held = layout.chunk(rank);
    if (held.size() == 0) continue;
    const std::int64_t end = std::min(begin + rows, layout.tokens()),
                       stay = std::max<std::int64_t>(0, std::min(end, held.end) - std::max(begin, held.begin));
    most = std::max(most, held.size() - stay + std::max<std::int64_t>(end - begin, 0) - stay);
    begin += rows;
  }
  return most;
}

/// The costs for one document over all ranks: two transforms of D channels, one of the filter's G groups if the filter
/// is transformed, and the moves onto equal shards and back (none if T is divisible by N). Backward transforms the
/// inputs again, and the gradient of the filter.
PassCosts fft_costs(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups, bool filter_transformed,
                    const std::optional<TimedKernel>& spectrum) {
  const std::int64_t D = in.v.columns(), T = sharding.layout().tokens();
  const ShardLayout layout(T, sharding.layout().ranks(), Layout::contiguous);
  if (T == 0 || D == 0) return {};
  const int N = static_cast<int>(std::min<std::int64_t>(layout.ranks(), T));  // ranks with tokens
  const std::int64_t rows = ceil_div(T, std::int64_t{N}), most_moved = most_rows_moved(layout, rows);
  const double tokens = static_cast<double>(equal_shard(layout)), channels = static_cast<double>(D);
  const DType wide = accumulator_of(in.v.dtype);
  const auto pass = [&](int transforms, int filter_transforms) {
    Cost cost;
    if (N == 1) {
      cost.kernels.push_back({.kernel = fft_kernel(T, D, groups), .elements = tokens * channels});
      return cost;
    }
    const auto bytes = [&](std::int64_t width) { return distributed_fft_bytes(N, rows, width, wide); };
    cost.bytes_sent = transforms * bytes(D) + filter_transforms * bytes(groups) + most_moved * D * size_of(in.v.dtype);
    const std::int64_t equal_shard_moves = most_moved > 0 ? 2 : 0;
    const ButterflyPlan butterflies = plan_butterflies(N, 0);  // other ranks have as many stages and branches
    const std::int64_t stages = std::ssize(butterflies.stages);
    double branches = 0;
    for (const Butterfly& stage : butterflies.stages) branches += static_cast<double>(stage.branches.size());
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
    cost.rounds = static_cast<std::int64_t>(slices) * (2 * stages + equal_shard_moves);
    // In a stage a rank sends its tensor to each of the other branches.
    const double peers = branches - static_cast<double>(stages);
    cost.messages =
        std::llround(slices * ((transforms + filter_transforms) * peers + static_cast<double>(equal_shard_moves)));
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
