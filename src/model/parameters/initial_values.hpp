#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <variant>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/random_fill.hpp"

namespace causeway {

/// How the first values of one parameter are made: drawn from a distribution by a kernel on the parameter's device, or
/// for small parameters by a formula of element i that the host evaluates. Each parameter has its own random stream,
/// and element i is made from draw i of it, so that no value depends on the device or on the order of drawing.
class InitialValues {
 public:
  using Formula = std::function<double(const RandomStream& random, std::int64_t i)>;
  using Distribution = RandomFill::Distribution;

  InitialValues(Distribution distribution, double factor) : source_(Drawn{distribution, factor}) {}
  explicit InitialValues(double value) : source_(value) {}
  template <class F>
  requires std::is_invocable_r_v<double, F, const RandomStream&, std::int64_t> InitialValues(F formula)
      : source_(Formula(std::move(formula))) {}  // NOLINT: a lambda can be given where initial values are expected

  /// Writes them into a dense weight; enqueues on the stream.
  void fill(const Stream& stream, const RandomStream& random, TensorView weight) const {
    if (const auto* drawn = std::get_if<Drawn>(&source_))
      return random_fill(stream,
                         {.distribution = drawn->distribution, .scale = drawn->scale, .random = random, .y = weight});
    if (const auto* value = std::get_if<double>(&source_))
      return causeway::fill(stream, {.value = *value, .y = weight});
    dispatch(weight.dtype, [&]<class T>() {
      std::vector<T> values(static_cast<std::size_t>(weight.size()));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = T(static_cast<Accumulator<T>>(std::get<Formula>(source_)(random, static_cast<std::int64_t>(i))));
      stream.upload(weight.data, values.data(), weight.bytes());
    });
  }

 private:
  struct Drawn {
    Distribution distribution;
    double scale;
  };
  std::variant<Drawn, double, Formula> source_;
};

namespace initial {

/// U(-bound, bound); PyTorch's default for linear layers and convolutions with bound = 1/√fan_in.
inline InitialValues uniform(double bound) { return {InitialValues::Distribution::uniform, bound}; }
/// N(0, deviation²).
inline InitialValues normal(double deviation) { return {InitialValues::Distribution::normal, deviation}; }
inline InitialValues constant(double value) { return InitialValues(value); }

}  // namespace initial
}  // namespace causeway
