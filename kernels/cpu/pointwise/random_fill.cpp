#include "kernels/random_fill.hpp"

#include "kernels/cpu/pointwise/elementwise.hpp"

namespace causeway::cpu {

void random_fill(const Stream&, const RandomFill& args) {
  ensure(args.y.dense(), "random_fill: y, {}, has gaps between its rows, expected a dense tensor",
         args.y.shape.to_string());
  const bool uniform = args.distribution == RandomFill::Distribution::uniform;
  dispatch(args.y.dtype, [&]<class T>() {
    T* const y = static_cast<T*>(args.y.data);
    for_each_span({args.y}, [&](std::int64_t, std::int64_t first, std::int64_t count) {
      for (std::int64_t i = first; i < first + count; ++i) {
        const auto draw = static_cast<std::uint64_t>(i);
        const double value = uniform ? 2 * args.random.uniform(draw) - 1 : args.random.normal(draw);
        y[i] = T(static_cast<Accumulator<T>>(args.scale * value));
      }
    });
  });
}

}  // namespace causeway::cpu
