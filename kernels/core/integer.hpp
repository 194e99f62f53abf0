#pragma once

namespace causeway {

/// ⌈count / each⌉, for count >= 0 and each > 0: how many pieces of size `each` cover `count`.
template <class Count, class Each>
constexpr auto ceil_div(Count count, Each each) {
  return (count + each - 1) / each;
}

/// The smallest multiple of `step` that is at least `count`, for count >= 0 and step > 0.
template <class Count, class Step>
constexpr auto round_up(Count count, Step step) {
  return ceil_div(count, step) * step;
}

}  // namespace causeway
