#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <variant>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/random_fill.hpp"

namespace causeway {

/// First values of one parameter: numbers that a kernel draws where the parameter lies, or element i as a formula that
/// the host evaluates, for small ones. `random` belongs to the parameter alone and is indexed by i, so no value depends
/// on who draws it.
class Initial {
 public:
  using Formula = std::function<double(const RandomStream& random, std::int64_t i)>;
  using Distribution = RandomFill::Distribution;

  Initial(Distribution distribution, double by) : start_(Drawn{distribution, by}) {}
  explicit Initial(double value) : start_(value) {}
  template <class F>
  requires std::is_invocable_r_v<double, F, const RandomStream&, std::int64_t> Initial(F formula)
      : start_(Formula(std::move(formula))) {}  // NOLINT: a formula may stand wherever first values are asked for

  /// Writes them into a dense weight.
  void fill(const Stream& stream, const RandomStream& random, TensorView weight) const {
    if (const auto* drawn = std::get_if<Drawn>(&start_))
      return random_fill(stream,
                         {.distribution = drawn->distribution, .scale = drawn->scale, .random = random, .y = weight});
    if (const auto* value = std::get_if<double>(&start_)) return causeway::fill(stream, {.value = *value, .y = weight});
    dispatch(weight.dtype, [&]<class T>() {
      std::vector<T> values(static_cast<std::size_t>(weight.size()));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = T(static_cast<Accumulator<T>>(std::get<Formula>(start_)(random, static_cast<std::int64_t>(i))));
      stream.upload(weight.data, values.data(), weight.bytes());
    });
  }

 private:
  struct Drawn {
    Distribution distribution;
    double scale;
  };
  std::variant<Drawn, double, Formula> start_;
};

namespace initial {

/// U(-bound, bound), PyTorch's start of a linear map or convolution with bound = 1/√fan_in.
inline Initial uniform(double bound) { return {Initial::Distribution::uniform, bound}; }
/// N(0, deviation²).
inline Initial normal(double deviation) { return {Initial::Distribution::normal, deviation}; }
inline Initial constant(double value) { return Initial(value); }

}  // namespace initial
}  // namespace causeway
