#pragma once

#include "src/convert/transform.hpp"

/// What only the filters and the rotary frequencies of StripedHyena 2 need.
namespace causeway {

/// Filters (groups, taps) whose rows the model has `repeated` times each, because se and mr share its number of groups.
struct StoredFilter {
  std::int64_t groups = 1, taps = 1, repeated = 1;
  bool reversed = false;  ///< stored in conv1d's order: the last tap is lag 0
};
Transform stored_filter(const StoredFilter& filter);

/// Two tensors of `filter.groups` rows, each of at least `filter.taps` columns, to the product of those columns in
/// their common type, as savanna's own converter computes it; then as stored_filter(). Only read.
Transform product_of_leading_taps(const StoredFilter& filter);

/// log(-x) for x ≤ 0, the logarithm of a decay rate, in f64, and the inverse, which gives the same x in f32 or a
/// narrower type. A rate of 0, whose logarithm is infinite, becomes one that exp() takes to 0. Throws Error(usage) for
/// x > 0: such a filter grows without bound.
Transform log_of_rate();

/// A parameter of `count` elements that the format keeps in another one's tensor (MappingRow::other): every element is
/// `value`, with which the other stays as it is; nothing is written.
Transform kept_in_other(std::int64_t count, double value);
/// For MappingRow::combine: the product, and the sum, in f64; the first ones unchanged if all others are 1 or 0.
Elements product_of(Elements values, Elements factors);
Elements sum_of(Elements values, Elements summands);

/// Rotary frequencies base^(-2i/channels) [channels/2], computed in f32 as the published programs do, for files and
/// models that do not have them.
Elements computed_frequencies(double base, std::int64_t channels);

}  // namespace causeway
